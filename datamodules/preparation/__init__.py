"""Raw scans to brain-extracted pairs in MNI152 space: the steps of ``prepare``, each with what it measured."""
