"""``controls``: what else could explain the result? Cheap trainings whose answer is known, or should be chance.

For each input: the image itself, its labels permuted between patients, its mask alone, its shuffled voxels, a
random region of its size, and the rest of the brain. For the study: the acquisition alone, two things that the images should
show (sex, field strength), and a split that leaks on purpose. A small network on volumes of 3 mm is enough: the controls ask
what can be learned, not how well. Results: ``controls.json`` and ``controls.tsv`` in the study's folder, with a verdict for
each by the rules of ``experiments.controls.rules``.
"""
