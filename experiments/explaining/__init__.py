"""``explain``: where in the image a network's output comes from, and whether that may be said at all.

Two methods that found planted regions: SmoothGrad and region occlusion. Every map is held against networks that were trained on
permuted labels, and ``rules`` alone decides what is said.
"""
