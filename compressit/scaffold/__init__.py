"""The plugins and recipes that `compressit new` writes. They run without changes."""
