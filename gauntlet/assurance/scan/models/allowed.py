"""What a Keras configuration may name without trust: classes, operations and functions that only compute.

An allow-list: every other name is refused, including names that later Keras versions add. To extend it, add a name
that was reviewed: it must not read, fetch, import or write anything, take no callable, and end for every input.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LAYERS = _names("""
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention
    Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization Bidirectional CategoryEncoding
    CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D
    ConvLSTM3D Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU
    EinsumDense Embedding Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization GroupedQueryAttention Identity InputLayer LSTM LSTMCell LayerNormalization LeakyReLU Masking
    MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum MultiHeadAttention Multiply Normalization PReLU Permute
    RMSNormalization RNN RandomBrightness RandomContrast RandomCrop RandomErasing RandomFlip RandomHue RandomRotation
    RandomSaturation RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing
    SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell Softmax SpatialDropout1D SpatialDropout2D
    SpatialDropout3D SpectralNormalization StackedRNNCells Subtract ThresholdedReLU TimeDistributed UnitNormalization
    UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
""")
MODELS = _names("""
    Functional Model Sequential
""")
OPERATIONS = _names("""
    Abs Absolute Add All Amax Amin Any Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin Average
    AveragePool BatchNorm BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BroadcastTo Cast Cbrt Ceil Celu Clip Concatenate
    Conv ConvTranspose Copy Cos Cosh CountNonzero CropImages Cumprod Cumsum DepthToSpace DepthwiseConv Diff Divide
    DivideNoNan Dot DotProductAttention Einsum Elu Equal Erf Exp Exp2 ExpandDims Expm1 ExtractPatches FFT FFT2 Fabs
    Flip Fliplr Flipud Floor FloorDivide Fmax Fmin Fmod GaussianBlur Gelu GetItem Glu Greater GreaterEqual HSVToRGB
    HardShrink HardSigmoid HardSilu HardTanh Hstack Hypot IFFT2 Inner Isclose Isfinite Isinf Isnan LayerNorm
    LeakyRelu Less LessEqual Log Log10 Log1p Log2 LogSigmoid LogSoftmax Logaddexp LogicalAnd LogicalNot LogicalOr
    LogicalXor Logsumexp Matmul Max MaxPool Maximum Mean Median Min Minimum Mod Moments Moveaxis Multiply NanToNum
    Negative Norm Normalize NotEqual OneHot OnesLike Outer Pad PadImages Power Prod Quantile RGBToGrayscale RGBToHSV
    RMSNorm Ravel Reciprocal Relu Relu6 Repeat Reshape Resize Roll Rot90 Round Rsqrt SaturateCast Select Selu
    SeparableConv Sigmoid Sign Silu Sin Sinh Slice SoftShrink Softmax Softplus Softsign Sort SpaceToDepth SparsePlus
    SparseSigmoid Sparsemax Split Sqrt Square Squareplus Squeeze Stack Std StopGradient Subtract Sum Swapaxes Take
    TakeAlongAxis Tan Tanh TanhShrink Tensordot Threshold Tile TopK Trace Transpose Tril Triu TrueDivide Trunc
    Unstack Var Vstack Where ZerosLike
""")
"""Of `keras.ops`. Left out: what takes callables (Cond, Map, Scan, Switch, WhileLoop, ...), and what makes tensors of
any size from numbers alone (Arange, Eye, Full, ...)."""
PARTS = _names("""
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer LecunNormal LecunUniform Ones
    Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros L1 L1L2 L2
    OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg UnitNorm DTypePolicy DTypePolicyMap FloatDTypePolicy Policy
    SeedGenerator TensorShape
""")
"""Initializers, regularizers, constraints, types."""
FUNCTIONS = _names("""
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus
    sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
""")
"""Activations."""
VALUES = _names("""
    __tensor__ __numpy__ __keras_tensor__ __tuple__ __slice__ __ellipsis__ __bytes__
""")
"""How Keras writes values that JSON has no form for."""
NAMESPACES = _names("""
    activations constraints dtype_policies initializers layers legacy models mixed_precision ops random regularizers
    engine losses metrics optimizers
""")
"""Modules of Keras that may be named, behind `keras.`, `keras.src.` and the like."""
COMPILED = _names("""
    Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam RMSprop SGD
    CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay
    AUC Accuracy BinaryAccuracy BinaryCrossentropy BinaryFocalCrossentropy BinaryIoU CTC CategoricalAccuracy
    CategoricalCrossentropy CategoricalFocalCrossentropy CategoricalGeneralizedCrossEntropy CategoricalHinge Circle
    CompileMetrics CompileLoss ConcordanceCorrelation CosineSimilarity Dice F1Score FBetaScore FalseNegatives
    FalsePositives Hinge Huber IoU KLDivergence LogCosh LogCoshError Mean MeanAbsoluteError
    MeanAbsolutePercentageError MeanIoU MeanMetricWrapper MeanSquaredError MeanSquaredLogarithmicError OneHotIoU
    OneHotMeanIoU PearsonCorrelation Poisson Precision PrecisionAtRecall R2Score Recall RecallAtPrecision
    RootMeanSquaredError SensitivityAtSpecificity SparseCategoricalAccuracy SparseCategoricalCrossentropy
    SparseTopKCategoricalAccuracy SpecificityAtSensitivity SquaredHinge Sum TopKCategoricalAccuracy TrueNegatives
    TruePositives Tversky binary_accuracy binary_crossentropy binary_focal_crossentropy categorical_accuracy
    categorical_crossentropy categorical_focal_crossentropy categorical_generalized_cross_entropy categorical_hinge
    circle concordance_correlation cosine_similarity ctc dice hinge huber kl_divergence log_cosh mean_absolute_error
    mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error pearson_correlation poisson
    sparse_categorical_accuracy sparse_categorical_crossentropy sparse_top_k_categorical_accuracy squared_hinge
    top_k_categorical_accuracy tversky
""")
"""Optimizers, losses and metrics: a model may be compiled with them; they are never loaded."""
CLASSES = LAYERS | MODELS | OPERATIONS | PARTS
ROOTS = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")


def is_module(module: str) -> bool:
    """Whether a description may name this module."""
    root = next((root for root in ROOTS if module == root or module.startswith(f"{root}.")), None)
    if root is None:
        return module == "builtins"
    parts = [part for part in module.removeprefix(root).split(".") if part]
    parts = parts[1:] if parts[:1] == ["src"] else parts
    return not parts or parts[0] in NAMESPACES
