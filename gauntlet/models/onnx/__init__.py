"""ONNX models as Keras models: images channels last, the usual operators as layers, checked against ONNX Runtime.

    values.py     what flows through the graph, and how its axes are held
    linear.py     Gemm, MatMul, Conv, normalisation, arithmetic with constants
    shaping.py    pooling, padding, reshaping, joining
    pointwise.py  activations and other functions of single numbers
    convert.py    the graph, node by node; constants are folded
    reading.py    a file: converted and checked, else asked through ONNX Runtime

Why not a converter: `onnx2tf` 1.29 pins TensorFlow 2.19 and NumPy 1.26 and brings forty packages; `onnx2torch` brings
torchvision and gives no Keras layers, which certificates read.
"""
