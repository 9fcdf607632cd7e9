"""From scores to label sets, and what they are worth: NumPy and numba, no Keras, no pictures."""
