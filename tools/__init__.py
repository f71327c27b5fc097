"""What is run by hand or by `make` on this tree, and is not part of what is installed."""
