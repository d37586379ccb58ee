"""Fast forms of the residual network's blocks, with the values and gradients of the ordinary layers up to rounding.

Most of the gain is on a CPU. ``fused_block.fused`` is the entrance; it chooses by device and number type.
"""
