"""What each shipped implementation reads and writes, step by step, written from its source: float32 words of 4 bytes.

N = 1, C channels, H = W = n; X elements of x. Each function gives (inference, training).
"""

N, C, SIZE = 1, 8, 6
X = N * C * SIZE**2
OUT = 4 * X
# CARAFE's core: k = 5, s = 2, one group; the mask, and x with a border of two pixels.
TAPS = 25
MASK = TAPS * 4 * SIZE**2
BORDERED = C * (SIZE + 4) ** 2
# DCNv3's core: 3x3 points of two groups.
GROUPS, POINTS = 2, 9
S = SIZE**2 * GROUPS * POINTS
FRAMED = C * (SIZE + 4) ** 2
ROWS = FRAMED // (C // GROUPS)


# --- Layers of torch ------------------------------------------------------------------------------------------------


def interpolation():
    return X + OUT, (X + OUT) + (OUT + X)


def layer(weights, out):
    """A convolution: backward reads the gradient, x and the weights, and writes two gradients."""
    forward = X + weights + out
    return forward, forward + (out + X + weights) + (X + weights)


def deconvolution():
    return layer(9 * C * C, OUT)


def interpolated_convolution():
    first, both = interpolation()
    weights = 9 * C * C
    forward = OUT + weights + OUT
    return first + forward, both + forward + (OUT + OUT + weights) + (OUT + weights)


def pixel_shuffle():
    first, both = layer(9 * C * 4 * C, 4 * X)
    return first + 2 * OUT, both + 2 * OUT + 2 * OUT


def depthwise_separable():
    pointwise = layer(C * C, X)
    depthwise = layer(9 * C, X)
    return pointwise[0] + depthwise[0], pointwise[1] + depthwise[1]


def strided_convolution():
    """To 2C channels at half the size."""
    return layer(9 * C * 2 * C, X // 2)


def strided_depthwise():
    quarter = X // 4
    pointwise = quarter + 2 * C * C + 2 * quarter
    backward = (2 * quarter + quarter + 2 * C * C) + (quarter + 2 * C * C)
    depthwise = layer(9 * C, quarter)
    return pointwise + depthwise[0], pointwise + backward + depthwise[1]


def spatial_attention():
    """Upsampled, times the sigmoid of a convolution of it to one channel."""
    plane, weights = OUT // C, 9 * C
    forward = (X + OUT) + (OUT + weights + plane) + 2 * plane + (OUT + plane + OUT)
    products = (OUT + OUT + OUT) + (OUT + plane + OUT) + (OUT + plane)
    convolution = 3 * plane + (plane + OUT + weights) + (OUT + weights)
    return forward, forward + products + convolution + 3 * OUT + (OUT + X)


# --- CARAFE's core --------------------------------------------------------------------------------------------------


def outside(n=SIZE, k=5):
    """Where a tap of a line leaves it: positions in int64, then booleans."""
    positions = 2 * n + 2 * k  # two ranges written
    sums = (2 * n + 2 * k + 2 * n * k) + (2 * n * k + 2 * n * k)
    compared = 2 * (2 * n * k + n * k / 4) + 3 * n * k / 4
    return positions + sums + compared


def carafe_unfold():
    columns = TAPS * OUT
    lines = 2 * (outside() + (SIZE * 5 + 2 * SIZE * 5) / 4)  # each repeated for two children
    windows = (2 * 2 * SIZE * 5 + MASK) / 4 + (MASK + MASK) / 4  # joined, then one for each group
    masked = MASK + MASK / 4 + MASK
    forward = lines + windows + masked + (X + OUT) + (OUT + columns) + (MASK + columns + OUT)
    to_factors = (MASK + OUT + columns) + (OUT + columns + MASK)
    folded = (columns + columns) + (columns + OUT) + (OUT + X)
    return forward, forward + to_factors + folded + masked


def carafe_cpu():
    forward = X + MASK + OUT
    to_x, to_mask = OUT + MASK + X, OUT + X + MASK
    return forward, forward + to_x + to_mask


def carafe_compiled():
    border = BORDERED + 2 * X
    invalid = SIZE**2 * TAPS / 4
    inside = 2 * outside() + (2 * SIZE * 5 / 4 + invalid) + (MASK + invalid + MASK)
    forward = border + 2 * MASK + inside + (BORDERED + MASK + OUT) + 2 * OUT
    children = 4  # each of a pixel's children has an image with a border
    grads = 2 * OUT + children * BORDERED + 2 * OUT
    flipped = 2 * MASK + 2 * MASK + children * TAPS * (SIZE + 4) ** 2 + 2 * MASK
    to_x = grads + flipped + (children * BORDERED + MASK + X) + 2 * X
    to_mask = 2 * OUT + border + (OUT + BORDERED + MASK) + inside + 2 * MASK
    return forward, forward + to_x + to_mask


def carafe_shift_add():
    pitch = SIZE + 4
    extended = C * ((SIZE + 4) * pitch + 4)
    lines = SIZE * pitch  # of one child and one channel
    kept = 4 * (4 + 5 + 6 + 5 + 4) ** 2  # taps that stay in the image, of four children
    weights = TAPS * 4 * lines + 2 * kept
    window, weight, sums = C * lines, 4 * lines, C * 4 * lines
    forward = (extended + 2 * X) + weights + sums + TAPS * (2 * sums + window + weight) + 2 * OUT
    grads = sums + 2 * OUT
    to_x = weights + extended + TAPS * 4 * (2 * window + window + lines)  # x's gradient is a view
    summed = (sums + window + sums) + (sums + weight) + (2 * weight + weight)
    to_mask = (extended + 2 * X) + TAPS * weight + TAPS * summed + (MASK + 2 * kept)
    return forward, forward + grads + to_x + to_mask


# --- DCNv3's core ---------------------------------------------------------------------------------------------------


def dcnv3_cpu():
    forward = X + 2 * S + S + X
    to_points = (X + X + 2 * S + S) + (2 * S + S)
    to_x = (X + 2 * S + S) + 3 * X  # zeros, then added to
    return forward, forward + to_points + to_x


def transposed_bags():
    """Samples sorted by their row, then four corners; what is not float32: rows int32, places int64."""
    ends = ROWS - (GROUPS + (SIZE + 4) * GROUPS)
    sort = S + S + 2 * S
    search = ends + (S + ends + 2 * ends)
    sources = 2 * S + 2 * S
    sums = ends * (C // GROUPS)
    corner = (S + 2 * S + S) + (2 * S + X + 2 * ends + S) + (sums + 2 * ends + 2 * ends) + 3 * sums
    return FRAMED + sort + search + sources + 4 * corner + 2 * X


def dcnv3_compiled():
    cells = 3 * S + 5 * S  # one row number and four weights
    framed = X + FRAMED
    forward = cells + framed + (FRAMED + 5 * S + X)
    to_points = framed + (FRAMED + S + X + 3 * S) + 3 * S
    return forward, forward + cells + transposed_bags() + to_points


def located():
    """Both coordinates of each sample, kept where the frame is; ranges are int64."""
    base = (2 * SIZE + 4 * SIZE + 4 * SIZE) + (2 * SIZE + SIZE) + (SIZE + 18 + SIZE * 18)
    moved = SIZE * 18 + 2 * S
    kept = (S + S / 4) + 1 + (S / 4 + S + 1 + S) + 2 * S
    return 2 * (base + moved + kept)


def eager_cells():
    fractions = 2 * (2 * S + 3 * S)  # floor, subtract
    image, group = 1 + 2, 2 + (2 + 18)
    first = (1 + 18 + 18) + (18 + 18)
    rows = 2 * (S + S) + (18 + S + S) + 3 * S
    return located() + fractions + image + group + first + rows + 6 * 3 * S


def bags():
    """What a corner's rows give each output pixel and group; offsets, sizes and maxima of bags are int32."""
    pixels = SIZE**2 * GROUPS
    corners = (0, GROUPS, (SIZE + 4) * GROUPS, (SIZE + 5) * GROUPS)
    tables = [(ROWS - corner) * (C // GROUPS) for corner in corners]
    summed = [pixels + (S + table + pixels + S + X + 2 * pixels) for table in tables]
    weighed = [X + table + S + pixels + S for table in tables]
    return sum(summed), sum(weighed)


def dcnv3_gather():
    summed, weighed = bags()
    framed = X + FRAMED
    forward = eager_cells() + framed + summed + 3 * 3 * X
    sides, products = 4 * 3 * 3 * S, 3 * 3 * S
    counts = 4 * (S + S / 4) + 3 * 3 * S / 4
    moves = 2 * (2 * 3 * S + 1 + (S / 4 + S + 1 + S)) + 2 * 2 * S
    combined = located() + 2 * (2 * S + 3 * S) + sides + products + 2 * S + counts + moves
    to_points = framed + S + summed + weighed + combined
    return forward, forward + eager_cells() + transposed_bags() + to_points


def dcnv3_grid_sample():
    P = S * 2  # numbers in the grid
    lines = 2 * SIZE**2
    padded = C * (SIZE + 2) ** 2
    size = 1 + 1 + 4
    centres = 2 * (SIZE + 2 * SIZE + 2 * SIZE) + (2 * SIZE + lines) + (lines + 2 + lines)
    steps = 3 + 6 + 6 + (6 + 18) + (18 + 2 + 18) + 36
    reference = lines + 18 + SIZE**2 * 18
    scaled = 2 * P + (2 * P + 2) + (SIZE**2 * 18 + P + P) + 2 * P + 2 * P
    clipped = 2 * P + (P + P / 4) + 1 + (P / 4 + P + 1 + P)
    samples = POINTS * X
    forward = (X + padded) + size + centres + steps + reference + scaled + clipped
    forward += (padded + P + samples) + (samples + S + samples) + (samples + X)
    weighed = (X + S + samples) + (X + samples + samples) + (samples + S) + 2 * S
    sampled = (samples + padded + P) + (padded + P)
    clipped = 1 + (P / 4 + P + 1 + P) + 2 * P + (2 * P + 2) + 2 * P
    return forward, forward + weighed + sampled + clipped + 2 * X


# --- DCNv2's module -------------------------------------------------------------------------------------------------


def dcnv2_grid_sample():
    """A convolution predicts offsets and, under a sigmoid, masks; the samples are columns of a matrix product."""
    predicted, weights, biases = 3 * S, 27 * GROUPS * 9 * C, 27 * GROUPS
    samples, matrix = POINTS * X, 9 * C * C
    predict = (X + weights + biases + predicted) + 2 * S
    tap = 3 + 6 + 6
    places = 2 * ((SIZE + 2 * SIZE) + (2 * S + 3) + (2 * S + SIZE))
    grid = 8 * 2 * S + 2 * 2 * S + 2 * 2 * S + (2 * S + 2 * S / 4) + 1 + (2 * S / 4 + 2 * S + 1 + 2 * S)
    forward = predict + tap + places + grid
    forward += (X + 2 * S + samples) + (samples + S + samples) + (samples + matrix + X) + 2 * X
    products = (X + samples + matrix) + (matrix + X + samples)
    masked = (samples + samples + samples) + (samples + S + samples) + (samples + S)
    sampled = (samples + X + 2 * S) + (X + 2 * S) + 1 + (2 * S / 4 + 2 * S + 1 + 2 * S) + 4 * 2 * S
    offsets = 2 * (S + 2 * S) + 3 * 2 * S
    predicting = 3 * S + 2 * 3 * S + (predicted + X + weights) + (X + weights + biases) + 3 * X
    return forward, forward + products + masked + sampled + offsets + predicting


CORES = {
    ("carafe_core", "carafe[unfold]"): carafe_unfold,
    ("carafe_core", "carafe[shift-add]"): carafe_shift_add,
    ("carafe_core", "carafe[compiled]"): carafe_compiled,
    ("carafe_core", "carafe[cpu]"): carafe_cpu,
    ("dcnv3_core", "dcnv3[grid-sample]"): dcnv3_grid_sample,
    ("dcnv3_core", "dcnv3[gather]"): dcnv3_gather,
    ("dcnv3_core", "dcnv3[compiled]"): dcnv3_compiled,
    ("dcnv3_core", "dcnv3[cpu]"): dcnv3_cpu,
    ("upsample2x", "nearest[torch]"): interpolation,
    ("upsample2x", "bilinear[torch]"): interpolation,
    ("upsample2x", "bicubic[torch]"): interpolation,
    ("upsample2x", "nearest-conv3x3[torch]"): interpolated_convolution,
    ("upsample2x", "bilinear-conv3x3[torch]"): interpolated_convolution,
    ("upsample2x", "deconv[torch]"): deconvolution,
    ("upsample2x", "pixel-shuffle[torch]"): pixel_shuffle,
    ("upsample2x", "spatial-attention[torch]"): spatial_attention,
    ("conv3x3", "dcnv2[grid-sample]"): dcnv2_grid_sample,
    ("conv3x3", "conv3x3[torch]"): lambda: layer(9 * C * C, X),
    ("conv3x3", "depthwise3x3[torch]"): lambda: layer(9 * C, X),
    ("conv3x3", "depthwise-separable[torch]"): depthwise_separable,
    ("downsample2x", "conv3x3-stride2[torch]"): strided_convolution,
    ("downsample2x", "depthwise-stride2[torch]"): strided_depthwise,
}
