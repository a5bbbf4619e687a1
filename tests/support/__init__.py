"""What tests of several folders share. Imported as `tests.support`; nothing here is collected."""
