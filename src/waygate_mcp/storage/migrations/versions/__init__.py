"""One module for each revision; what stands in one is never changed once it was published."""
