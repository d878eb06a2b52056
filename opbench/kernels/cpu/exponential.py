"""e to the power of numbers that are at most 0, as a softmax takes it."""

from __future__ import annotations

import math

from llvmlite import ir

from opbench.kernels.cpu.ir import F32, I32, I64, Kernel, Value

# ln 2 beyond what a double holds of it.
LN2_REST = 2.319046813846299615e-17


def exponential(k: Kernel, x: Value) -> Value:
    """e**x, lane by lane, for x <= 0, within two ulps; NaN for NaN.

    x = n ln 2 + r with |r| <= ln 2 / 2, so e**x = 2**n e**r. Of e**r, Taylor's series: it leaves off less than a tenth
    of an ulp. n ln 2 is subtracted in two parts, the first of so few bits that its product with n is exact.
    """
    single = x.type.element == F32
    # Below `least` the result is less than half of the smallest subnormal number: 0.
    fraction, bias, terms, least = (23, 127, 8, -104.0) if single else (52, 1023, 14, -746.0)
    x = k.select(x < least, k.constant(least, x.type), x)
    # A sum this large has no bits left for a fraction: it rounds to an integer, which its last bits hold.
    shift = k.constant(1.5 * 2.0**fraction, x.type)
    shifted = k.fma(x, k.constant(1 / math.log(2), x.type), shift)
    n = shifted - shift
    high = round(math.log(2) * 2 ** (fraction // 2)) / 2 ** (fraction // 2)
    r = k.fma(n, k.constant(-high, x.type), x)
    r = k.fma(n, k.constant(high - math.log(2) - LN2_REST, x.type), r)
    power = k.constant(1 / math.factorial(terms - 1), x.type)
    for term in reversed(range(terms - 1)):
        power = k.fma(power, r, k.constant(1 / math.factorial(term), x.type))
    # 2**n in two factors, each a normal number.
    integers = ir.VectorType(I32 if single else I64, x.type.count)
    exponents = k.bitcast(shifted, integers) - k.bitcast(shift, integers) + 2 * bias
    half = exponents >> 1
    for exponent in (half, exponents - half):
        power = power * k.bitcast(exponent << fraction, x.type)
    return power
