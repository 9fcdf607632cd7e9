"""Tables and pictures of a collection, its folds, and the batches made of them."""
