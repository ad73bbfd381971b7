"""One file per algorithm; losses are pure functions."""
