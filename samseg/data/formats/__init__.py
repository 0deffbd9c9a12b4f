"""Files of images, labels and shapes, read as they are: each format's own ways end here."""
