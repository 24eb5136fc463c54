"""What Weft answers over HTTP."""
