"""Images and masks: found, checked, read, mapped to classes and augmented."""
