"""From scores to label sets, and what they are worth: NumPy only, no Keras, no pictures."""
