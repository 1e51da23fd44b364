"""The beginnings of a plugin and of a recipe, as `compressit new` writes them: they run as they stand."""
