"""Steps on a call's way: observe (metrics), authorize (permission)."""
