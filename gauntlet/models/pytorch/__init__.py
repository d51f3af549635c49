"""PyTorch models, white-box: the network stays PyTorch's, losses and attacks are the same as for Keras.

    library.py      PyTorch itself, an extra
    network.py      a module, an exported program or TorchScript as a function from images to scores
    graph.py        the graph of an exported program: one input, one output, last steps that can be removed
    script.py       the same for TorchScript
    adapter.py      what a network expects and gives, found on clean images
    classifier.py   the network as it is attacked
    files.py        .pt2, TorchScript, weights for a factory

PyTorch is imported by functions, never on import.
"""
