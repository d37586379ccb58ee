"""One run: put together, fitted, written; and the workers that train many."""
