"""imetlib: recognise the attributes of artworks, from a folder of pictures to a submission."""

__version__ = "0.1.0"
