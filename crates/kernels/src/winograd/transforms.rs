//! From pixels to the planes of the transform and back, a vector of tiles at a time.

use crate::Activation;

/// The tiles of some rows, of one channel.
pub(super) struct InputPass {
    /// Copies of the channel.
    pub x: *const f32,
    /// Where the pixels under every tap of the first tile start.
    pub taps: *const u32,
    /// Elements from one row of tiles to the next.
    pub x_row: usize,
    /// Rows of tiles.
    pub rows: usize,
    /// Tiles of a row.
    pub tiles: usize,
    /// The first tile in the first plane.
    pub to: *mut f32,
    /// Elements from one plane to the next.
    pub plane: usize,
}

/// The tiles of some rows, of one output.
pub(super) struct OutputPass {
    /// The first tile in the first plane.
    pub from: *const f32,
    /// Elements from one plane to the next.
    pub plane: usize,
    /// Rows of tiles.
    pub rows: usize,
    /// Tiles of a row.
    pub tiles: usize,
    /// First pixel.
    pub y: *mut f32,
    /// As `y`, or null.
    pub residual: *const f32,
    /// Columns and rows of pixels, of which the last tiles may have more.
    pub width: usize,
    pub height: usize,
    /// Added to every pixel.
    pub bias: f32,
    /// Applied last.
    pub activation: Activation,
}

/// Defines `input` and `output` for one instruction set, over the names of one file of `crate::isa`.
macro_rules! winograd_transforms {
    ($(#[$features:meta])*) => {
        /// Transforms the input of tiles of `size` pixels square.
        ///
        /// # Safety
        /// The CPU has the features. From `x`, every tap leads to `tiles` elements of every row and a vector beyond. Every plane is
        /// writable for all tiles and a vector beyond.
        $(#[$features])*
        pub(super) unsafe fn input(size: usize, pass: &$crate::winograd::transforms::InputPass) {
            // SAFETY: by this function's contract.
            unsafe {
                match size {
                    2 => input_of::<4>(pass),
                    _ => input_of::<6>(pass),
                }
            }
        }

        /// # Safety
        /// As `input`, with `A` taps a side.
        $(#[$features])*
        unsafe fn input_of<const A: usize>(pass: &$crate::winograd::transforms::InputPass) {
            for row in 0..pass.rows {
                // in this order: what a vector writes past the end of its row, the next row overwrites
                for first in (0..pass.tiles).step_by(LANES) {
                    let x = pass.x.wrapping_add(row * pass.x_row + first);
                    let to = pass.to.wrapping_add(row * pass.tiles + first);
                    let mut half = [[splat(0.0); A]; A];
                    for c in 0..A {
                        let mut column = [splat(0.0); A];
                        for r in 0..A {
                            // SAFETY: a vector of the row `row`.
                            column[r] = unsafe { load(x.add(pass.taps.add(r * A + c).read() as usize)) };
                        }
                        let column = before(column);
                        for r in 0..A {
                            half[r][c] = column[r];
                        }
                    }
                    for r in 0..A {
                        let line = before(half[r]);
                        for c in 0..A {
                            // SAFETY: a vector of every plane.
                            unsafe { store(to.add((r * A + c) * pass.plane), line[c]) };
                        }
                    }
                }
            }
        }

        /// `B' d`.
        $(#[$features])*
        #[inline]
        fn before<const A: usize>(d: [Vector; A]) -> [Vector; A] {
            let minus = |a: Vector, b: Vector| fma(splat(-1.0), b, a);
            let mut out = d;
            if A == 4 {
                out[0] = minus(d[0], d[2]);
                out[1] = add(d[1], d[2]);
                out[2] = minus(d[2], d[1]);
                out[3] = minus(d[1], d[3]);
            } else {
                out[0] = fma(splat(4.0), d[0], fma(splat(-5.0), d[2], d[A - 2]));
                let (even, odd) = (fma(splat(-4.0), d[2], d[A - 2]), fma(splat(-4.0), d[1], d[3]));
                out[1] = add(even, odd);
                out[2] = minus(even, odd);
                let (even, odd) = (minus(d[A - 2], d[2]), minus(d[3], d[1]));
                out[3] = fma(splat(2.0), odd, even);
                out[A - 2] = fma(splat(-2.0), odd, even);
                out[A - 1] = fma(splat(4.0), d[1], fma(splat(-5.0), d[3], d[A - 1]));
            }
            out
        }

        /// `A' m`: of `A` numbers, `M`.
        $(#[$features])*
        #[inline]
        fn after<const A: usize, const M: usize>(m: [Vector; A]) -> [Vector; M] {
            let minus = |a: Vector, b: Vector| fma(splat(-1.0), b, a);
            let mut out = [splat(0.0); M];
            let (sum, difference) = (add(m[1], m[2]), minus(m[1], m[2]));
            if A == 4 {
                out[0] = add(m[0], sum);
                out[1] = minus(difference, m[3]);
            } else {
                let (far, other) = (add(m[3], m[A - 2]), minus(m[3], m[A - 2]));
                out[0] = add(add(m[0], sum), far);
                out[1] = fma(splat(2.0), other, difference);
                out[M - 2] = fma(splat(4.0), far, sum);
                out[M - 1] = add(fma(splat(8.0), other, difference), m[A - 1]);
            }
            out
        }

        /// Vectors of every `M`th pixel, put in order.
        $(#[$features])*
        #[inline]
        fn in_order<const M: usize>(v: [Vector; M]) -> [Vector; M] {
            let mut out = v;
            if M == 2 {
                (out[0], out[1]) = interleave(v[0], v[1]);
            } else {
                let (even, odd) = (interleave(v[0], v[M - 2]), interleave(v[1], v[M - 1]));
                (out[0], out[1]) = interleave(even.0, odd.0);
                (out[M - 2], out[M - 1]) = interleave(even.1, odd.1);
            }
            out
        }

        /// Transforms tiles of `size` pixels square back, and finishes their pixels.
        ///
        /// # Safety
        /// The CPU has the features. Every plane is readable for all tiles and a vector beyond. At `y` (writable) and `residual`
        /// (readable) lie `height` rows of `width` pixels without gaps.
        $(#[$features])*
        pub(super) unsafe fn output(size: usize, pass: &$crate::winograd::transforms::OutputPass) {
            // SAFETY: by this function's contract.
            unsafe {
                match size {
                    2 => output_of::<4, 2>(pass),
                    _ => output_of::<6, 4>(pass),
                }
            }
        }

        /// # Safety
        /// As `output`, with `A` taps and `M` pixels a side.
        $(#[$features])*
        unsafe fn output_of<const A: usize, const M: usize>(pass: &$crate::winograd::transforms::OutputPass) {
            let bias = splat(pass.bias);
            for row in 0..pass.rows {
                for first in (0..pass.tiles).step_by(LANES) {
                    let from = pass.from.wrapping_add(row * pass.tiles + first);
                    let mut half = [[splat(0.0); A]; M];
                    for c in 0..A {
                        let mut column = [splat(0.0); A];
                        for r in 0..A {
                            // SAFETY: a vector of every plane.
                            column[r] = unsafe { load(from.add((r * A + c) * pass.plane)) };
                        }
                        let column: [Vector; M] = after(column);
                        for r in 0..M {
                            half[r][c] = column[r];
                        }
                    }
                    let left = (pass.width - first * M).min(M * LANES);
                    for r in 0..M.min(pass.height - row * M) {
                        let line: [Vector; M] = in_order(after(half[r]));
                        let at = (row * M + r) * pass.width + first * M;
                        for q in 0..M {
                            let lanes = left.saturating_sub(q * LANES).min(LANES);
                            if lanes == 0 {
                                break;
                            }
                            let y = pass.y.wrapping_add(at + q * LANES);
                            let residual = pass.residual.wrapping_add(at + q * LANES);
                            let mut sum = add(line[q], bias);
                            // SAFETY: the next `lanes` pixels of this row.
                            unsafe {
                                if lanes == LANES {
                                    if !pass.residual.is_null() {
                                        sum = add(sum, load(residual));
                                    }
                                    store(y, activate(sum, pass.activation));
                                } else {
                                    if !pass.residual.is_null() {
                                        sum = add(sum, load_window(residual, 0, lanes));
                                    }
                                    store_window(y, 0, lanes, activate(sum, pass.activation));
                                }
                            }
                        }
                    }
                }
            }
        }
    };
}

pub(super) use winograd_transforms;
