"""The compiled loops of ``scans_numba``, which deals rows out to them, and their vector math.

Every loop takes rows first to last of jagged arrays; scratch comes from the caller. The innermost loop runs
over poles, states or channels and holds nothing that LLVM could not turn into vector instructions: no
branches, no calls, complex numbers as pairs of neighbours.

Shapes: N values, P complex poles, E channels, S states of a channel, K taps, T longest row.
"""

# They are compiled from their source: their arguments have no Python types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, misc"

import numpy as np
from numba import njit
from numba.core.compiler import Compiler

LANES = 4  # channels that the selective scan handles at a time

f32 = np.float32
LOG2_E, LN2_HIGH, LN2_LOW = f32(1.44269504), f32(0.693359375), f32(-2.12194440e-4)
EXP2_LOW, EXP2_HIGH, ROUNDING, LN2 = f32(-126), f32(126), f32(1.5 * 2**23), f32(0.69314718)
EXP2 = tuple(
    f32(c) for c in (1.5353362e-4, 1.3398874e-3, 9.6184374e-3, 5.5503325e-2, 2.4022648e-1, 6.9314720e-1)
)
EXP_LOW, EXP_HIGH = f32(-88), f32(88)
EXP = tuple(f32(c) for c in (1.9875691e-4, 1.3981999e-3, 8.3334519e-3, 4.1665796e-2, 1.6666665e-1, 0.5))
SIN = tuple(f32(c) for c in (-1.9515296e-4, 8.3321609e-3, -1.6666655e-1))
COS = tuple(f32(c) for c in (2.4433157e-5, -1.3887316e-3, 4.1666646e-2))
HALF_PI_HIGH, HALF_PI_LOW = 1.5707963267341256, 6.077100506506192e-11
ZERO, HALF, ONE = f32(0), f32(0.5), f32(1)
# (e^z (z - 1) + 1) / z^2 = sum k z^(k - 1) / (k + 1)!, highest power first; more precise up to |z|^2 = 1/4.
SLOPE = tuple(f32(k / np.prod(np.arange(1.0, k + 2))) for k in range(8, 0, -1))
SERIES_BELOW = f32(0.25)


class _Compiler(Compiler):
    """Tells LLVM that no two arguments share memory; without that it checks it in every inner loop."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.state.flags.noalias = True


# No "nnan" and "ninf": a NaN has to come out as one. Sums over states may be reordered ("reassoc") in the
# kernels, not in the helpers, whose constants are in two parts.
_helper = njit(nogil=True, forceinline=True, error_model="numpy", fastmath={"contract", "nsz"})
_kernel = njit(
    nogil=True,
    cache=True,
    error_model="numpy",
    fastmath={"contract", "nsz", "reassoc", "arcp"},
    pipeline_class=_Compiler,
)


@_helper
def _exp_parts(x):
    """(e^r - 1, 2^n) with e^x = 2^n e^r, as Cephes' expf: 0 below -87.7; NaN stays NaN."""
    x = EXP_LOW if x < EXP_LOW else x
    x = EXP_HIGH if x > EXP_HIGH else x
    power = np.floor(x * LOG2_E + HALF)
    r = x - power * LN2_HIGH - power * LN2_LOW
    tail = ((((EXP[0] * r + EXP[1]) * r + EXP[2]) * r + EXP[3]) * r + EXP[4]) * r + EXP[5]
    scale = np.int32((np.int32(power) + 127) << 23).view(f32)
    return tail * r * r + r, scale


@_helper
def _exp2(x):
    """2^x as Cephes' exp2f, from 2^-126 to 2^126; NaN stays NaN."""
    x = EXP2_LOW if x < EXP2_LOW else x
    x = EXP2_HIGH if x > EXP2_HIGH else x
    shifted = f32(x + ROUNDING)  # its last bits are the whole part of x
    r = x - (shifted - ROUNDING)
    power = EXP2[0] * r + EXP2[1]
    power = (((power * r + EXP2[2]) * r + EXP2[3]) * r + EXP2[4]) * r + EXP2[5]
    return np.int32(f32(power * r + ONE).view(np.int32) + np.int32(shifted.view(np.int32) << 23)).view(f32)


@_helper
def _cos_sin(x):
    """(cos - 1, sin), both precise near 0.

    Quarter turns are taken off in float64, where 1e9 radians keep their fraction.
    """
    wide = np.float64(x)
    turns = np.floor(wide * (2 / np.pi) + 0.5)
    r = f32(wide - turns * HALF_PI_HIGH - turns * HALF_PI_LOW)
    quarter = np.int32(turns - 4.0 * np.floor(turns * 0.25))
    square = r * r
    sin = r + r * square * ((SIN[0] * square + SIN[1]) * square + SIN[2])
    cos_1 = square * square * ((COS[0] * square + COS[1]) * square + COS[2]) - HALF * square
    odd = (quarter & 1) == 1
    turned_cos = sin if odd else cos_1 + ONE
    turned_sin = cos_1 + ONE if odd else sin
    turned_cos = -turned_cos if (quarter == 1) | (quarter == 2) else turned_cos
    turned_sin = -turned_sin if quarter >= 2 else turned_sin
    return cos_1 if quarter == 0 else turned_cos - ONE, turned_sin


@_helper
def _slope(re, im):
    """(e^z (z - 1) + 1) / z^2 for small z, by Clenshaw's recurrence for real coefficients."""
    p, q = re + re, re * re + im * im
    a = SLOPE[0]
    b = SLOPE[1] + p * a
    a, b = b, SLOPE[2] + p * b - q * a
    a, b = b, SLOPE[3] + p * b - q * a
    a, b = b, SLOPE[4] + p * b - q * a
    a, b = b, SLOPE[5] + p * b - q * a
    a, b = b, SLOPE[6] + p * b - q * a
    return SLOPE[7] + re * b - q * a, im * b


@_helper
def _zero_order_hold(pole_re, pole_im, inverse_re, inverse_im, duration):
    """(e^z - 1, (e^z - 1) / L) with z = L D, each as two numbers; L D -> 0 gives D."""
    re, im = pole_re * duration, pole_im * duration
    less_one, scale = _exp_parts(re)
    cos_1, sin = _cos_sin(im)
    grown = (less_one + ONE) * scale
    z_re = grown * cos_1 + (less_one * scale + (scale - ONE))
    z_im = grown * sin
    return z_re, z_im, z_re * inverse_re - z_im * inverse_im, z_re * inverse_im + z_im * inverse_re


@_kernel
def s5_forward(first, last, offsets, inputs, intervals, poles, inverse, rates, states, x_re, x_im):
    for row in range(first, last):
        x_re[:] = ZERO
        x_im[:] = ZERO
        for k in range(offsets[row], offsets[row + 1]):
            for p in range(x_re.shape[0]):
                a, b, hold_re, hold_im = _zero_order_hold(
                    poles[2 * p],
                    poles[2 * p + 1],
                    inverse[2 * p],
                    inverse[2 * p + 1],
                    intervals[k] * rates[p],
                )
                a += ONE
                u_re, u_im = inputs[k, 2 * p], inputs[k, 2 * p + 1]
                re = a * x_re[p] - b * x_im[p] + hold_re * u_re - hold_im * u_im
                im = a * x_im[p] + b * x_re[p] + hold_re * u_im + hold_im * u_re
                x_re[p], x_im[p] = re, im
                states[k, 2 * p], states[k, 2 * p + 1] = re, im


@_kernel
def s5_backward(
    first, last, offsets, inputs, intervals, poles, inverse, rates, states, zeros, grad, g_re, g_im,
    d_inputs, d_intervals, d_poles, d_rates,
):  # fmt: skip
    for row in range(first, last):
        g_re[:] = ZERO
        g_im[:] = ZERO
        for k in range(offsets[row + 1] - 1, offsets[row] - 1, -1):
            before = states[k - 1] if k > offsets[row] else zeros
            interval, d_interval = intervals[k], ZERO
            for p in range(g_re.shape[0]):
                duration, rate = interval * rates[p], rates[p]
                pole_re, pole_im = poles[2 * p], poles[2 * p + 1]
                inverse_re, inverse_im = inverse[2 * p], inverse[2 * p + 1]
                a, b, hold_re, hold_im = _zero_order_hold(pole_re, pole_im, inverse_re, inverse_im, duration)
                a += ONE
                re, im = grad[k, 2 * p] + g_re[p], grad[k, 2 * p + 1] + g_im[p]
                d_inputs[k, 2 * p] = hold_re * re + hold_im * im
                d_inputs[k, 2 * p + 1] = hold_re * im - hold_im * re
                # what reaches the state before: conj(e^z) g
                back_re, back_im = a * re + b * im, a * im - b * re
                g_re[p], g_im[p] = back_re, back_im
                # by e^z: conj(x before) conj(e^z) g; by the hold: conj(u) g
                x_re, x_im, u_re, u_im = (
                    before[2 * p],
                    before[2 * p + 1],
                    inputs[k, 2 * p],
                    inputs[k, 2 * p + 1],
                )
                e_re, e_im = x_re * back_re + x_im * back_im, x_re * back_im - x_im * back_re
                h_re, h_im = u_re * re + u_im * im, u_re * im - u_im * re
                d_duration = pole_re * e_re + pole_im * e_im + a * h_re + b * h_im
                d_interval += d_duration * rate
                d_rates[p] += d_duration * interval
                z_re, z_im = pole_re * duration, pole_im * duration
                small_re, small_im = _slope(z_re, z_im)
                n_re, n_im = duration * a - hold_re, duration * b - hold_im
                series = z_re * z_re + z_im * z_im < SERIES_BELOW
                s_re = duration * duration * small_re if series else n_re * inverse_re - n_im * inverse_im
                s_im = duration * duration * small_im if series else n_re * inverse_im + n_im * inverse_re
                d_poles[2 * p] += duration * e_re + s_re * h_re + s_im * h_im
                d_poles[2 * p + 1] += duration * e_im + s_re * h_im - s_im * h_re
            d_intervals[k] = d_interval


# The selective scan handles LANES channels at a time: what depends on the step alone, and the bookkeeping
# of the loop over states, is paid for once. A2 is A / ln 2, E a multiple of LANES.


@_kernel
def selective_forward(first, last, offsets, u, delta, A2, B, C, D, y, h, step, scaled, total):
    """Scratch: h [LANES, S], the rest [LANES]."""
    for row in range(first, last):
        for e in range(0, u.shape[1], LANES):
            h[:] = ZERO
            for t in range(offsets[row], offsets[row + 1]):
                for c in range(LANES):
                    step[c] = delta[t, e + c]
                    scaled[c] = step[c] * u[t, e + c]
                    total[c] = ZERO
                for s in range(h.shape[1]):
                    b, out = B[t, s], C[t, s]
                    for c in range(LANES):
                        state = _exp2(step[c] * A2[e + c, s]) * h[c, s] + scaled[c] * b
                        h[c, s] = state
                        total[c] += out * state
                for c in range(LANES):
                    y[t, e + c] = total[c] + D[e + c] * u[t, e + c]


@_kernel
def _states(start, end, e, u, delta, A2, B, decays, states, step, scaled):
    for t in range(start, end):
        for c in range(LANES):
            step[c] = delta[t, e + c]
            scaled[c] = step[c] * u[t, e + c]
        for s in range(B.shape[1]):
            b = B[t, s]
            for c in range(LANES):
                decay = _exp2(step[c] * A2[e + c, s])
                decays[t - start, c, s] = decay
                states[t - start + 1, c, s] = decay * states[t - start, c, s] + scaled[c] * b


@_kernel
def selective_backward(
    first, last, offsets, u, delta, A2, B, C, D, grad,
    decays, states, g, step, scaled, slope, d_scaled, d_step, d_skip, d_u, d_delta, d_A, d_B, d_C, d_D,
):  # fmt: skip
    """Scratch: decays [T, LANES, S], states [T + 1, LANES, S] from 0 on, g [LANES, S], the rest [LANES]."""
    for row in range(first, last):
        start, end = offsets[row], offsets[row + 1]
        for e in range(0, u.shape[1], LANES):
            _states(start, end, e, u, delta, A2, B, decays, states, step, scaled)
            g[:] = ZERO
            d_skip[:] = ZERO
            for t in range(end - 1, start - 1, -1):
                k = t - start
                for c in range(LANES):
                    step[c], slope[c] = delta[t, e + c], grad[t, e + c]
                    scaled[c] = step[c] * u[t, e + c]
                    d_scaled[c], d_step[c] = ZERO, ZERO
                    d_skip[c] += slope[c] * u[t, e + c]
                for s in range(g.shape[1]):
                    b, out, d_b, d_c = B[t, s], C[t, s], ZERO, ZERO
                    for c in range(LANES):
                        d_state = slope[c] * out + g[c, s]
                        d_c += slope[c] * states[k + 1, c, s]
                        d_b += d_state * scaled[c]
                        d_scaled[c] += d_state * b
                        back = d_state * decays[k, c, s]
                        g[c, s] = back
                        by_decay = back * states[k, c, s]
                        d_step[c] += by_decay * A2[e + c, s]
                        d_A[e + c, s] += by_decay * step[c]
                    d_B[t, s] += d_b
                    d_C[t, s] += d_c
                for c in range(LANES):
                    d_u[t, e + c] = d_scaled[c] * step[c] + slope[c] * D[e + c]
                    d_delta[t, e + c] = d_scaled[c] * u[t, e + c] + d_step[c] * LN2
            for c in range(LANES):
                d_D[e + c] += d_skip[c]


@_kernel
def conv_forward(first, last, offsets, x, taps, bias, y):
    """taps: [K, E], the tap of x_t first."""
    for row in range(first, last):
        for t in range(offsets[row], offsets[row + 1]):
            y[t] = bias
            for j in range(min(taps.shape[0], t - offsets[row] + 1)):
                for e in range(x.shape[1]):
                    y[t, e] += taps[j, e] * x[t - j, e]


@_kernel
def conv_backward(first, last, offsets, x, taps, grad, d_x, d_taps, d_bias):
    for row in range(first, last):
        for t in range(offsets[row], offsets[row + 1]):
            for e in range(x.shape[1]):
                d_bias[e] += grad[t, e]
                d_x[t, e] = ZERO
            for j in range(min(taps.shape[0], t - offsets[row] + 1)):
                for e in range(x.shape[1]):
                    d_x[t - j, e] += taps[j, e] * grad[t, e]
                    d_taps[j, e] += grad[t, e] * x[t - j, e]
