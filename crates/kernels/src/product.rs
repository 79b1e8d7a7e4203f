//! Dense f32 matrix products on the calling thread, for training: the checked door to the `gemm` library.

use gemm::Parallelism;

/// A matrix inside a slice: element `(i, j)` is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The elements; the slice may be longer than the matrix.
    pub data: &'a [f32],
    /// Distance between two rows.
    pub row_stride: usize,
    /// Distance between two columns.
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows that begin `row_stride` apart, each without gaps.
    pub fn rows(data: &'a [f32], row_stride: usize) -> Self {
        Matrix { data, row_stride, column_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Matrix { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

/// What happens to the old contents of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// They are never read, not even where they are NaN.
    Replace,
    /// The product is added to them.
    Add,
}

/// Writes `a b`, for `a` of `m x k` and `b` of `k x n`, to `dst`, whose rows begin `row_stride` apart without gaps inside.
///
/// Never forks; the bits depend on the sizes, the strides and the processor only. An empty sum (`k == 0`) is zero.
///
/// # Panics
///
/// If a matrix does not fit its slice, has more elements than it (a stride of 0), or if the rows of `dst` overlap.
pub fn product([m, n, k]: [usize; 3], dst: &mut [f32], row_stride: usize, write: Write, a: Matrix, b: Matrix) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(m == 1 || row_stride >= n, "rows of {n} floats that begin {row_stride} apart overlap");
    let [dst_rs, dst_cs] = checked_strides("dst", dst.len(), [m, n], [row_stride, 1]);
    let [a_rs, a_cs] = checked_strides("a", a.data.len(), [m, k], [a.row_stride, a.column_stride]);
    let [b_rs, b_cs] = checked_strides("b", b.data.len(), [k, n], [b.row_stride, b.column_stride]);
    let (dst, a, b, read) = (dst.as_mut_ptr(), a.data.as_ptr(), b.data.as_ptr(), write == Write::Add);
    // SAFETY: `checked_strides` has shown for each of the three that its strides are not negative, that its last element, and
    // with it every other, lies inside its slice, and that its number of elements does not overflow. `dst` is borrowed mutably,
    // so neither `a` nor `b` overlaps it, and no two elements of it share a place as its rows do not overlap. All are f32.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst,
            dst_cs,
            dst_rs,
            read,
            a,
            a_cs,
            a_rs,
            b,
            b_cs,
            b_rs,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// The strides as `gemm` takes them, for a matrix that was found to lie inside a slice of `len` floats.
fn checked_strides(what: &str, len: usize, [rows, columns]: [usize; 2], strides: [usize; 2]) -> [isize; 2] {
    let reach = |count: usize, stride: usize| count.saturating_sub(1).checked_mul(stride);
    let last = reach(rows, strides[0]).and_then(|down| down.checked_add(reach(columns, strides[1])?));
    let inside = last.is_some_and(|last| rows == 0 || columns == 0 || last < len);
    let countable = rows.checked_mul(columns).is_some_and(|count| count <= len);
    let signed = strides.map(isize::try_from);
    match signed {
        [Ok(down), Ok(right)] if inside && countable => [down, right],
        _ => panic!("{what} of {rows} x {columns} with strides {strides:?} does not fit a slice of {len} floats"),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    const GUARD: f32 = 1234.5;

    fn noise(count: usize, salt: f32) -> Vec<f32> {
        (0..count).map(|i| ((i as f32 * 0.731 + salt).sin() * 43.7).fract()).collect()
    }

    /// The `rows x columns` matrix `(i, j) -> value` with a gap after each line, guards around it, by rows or by columns.
    fn stored(rows: usize, columns: usize, by_columns: bool, gap: usize, salt: f32) -> (Vec<f32>, usize) {
        let (lines, length) = if by_columns { (columns, rows) } else { (rows, columns) };
        let stride = length + gap;
        // The slice ends with the last element: the first float behind it is not there to be read.
        let len = if lines == 0 || length == 0 { 0 } else { (lines - 1) * stride + length };
        (noise(len, salt), stride)
    }

    fn matrix(data: &[f32], stride: usize, by_columns: bool) -> Matrix<'_> {
        let matrix = Matrix::rows(data, stride);
        if by_columns { matrix.t() } else { matrix }
    }

    #[test]
    fn products_agree_with_plain_loops_and_stay_inside_their_rows() {
        const SIZES: [[usize; 3]; 15] = [
            [1, 1, 1],
            [3, 5, 2],
            [1, 17, 9],
            [17, 1, 9],
            [13, 11, 7],
            [16, 16, 16],
            [31, 33, 29],
            [64, 48, 65],
            [5, 100, 300],
            [97, 101, 103],
            [70, 9, 1100],
            [0, 3, 4],
            [3, 0, 4],
            [3, 4, 0],
            [0, 0, 0],
        ];
        for [m, n, k] in SIZES {
            for case in 0..16 {
                let [a_t, b_t, add, wide] = [1, 2, 4, 8].map(|bit| case & bit != 0);
                let gap = if wide { 3 } else { 0 };
                let ((a, a_stride), (b, b_stride)) = (stored(m, k, a_t, gap, 0.1), stored(k, n, b_t, gap, 0.2));
                let (a, b) = (matrix(&a, a_stride, a_t), matrix(&b, b_stride, b_t));
                let row_stride = n + gap;
                let before = if add { noise(m * row_stride, 0.3) } else { vec![f32::NAN; m * row_stride] };
                let mut padded = vec![GUARD; m * row_stride + 64];
                for (i, row) in before.chunks(row_stride.max(1)).enumerate() {
                    padded[32 + i * row_stride..][..n].copy_from_slice(&row[..n]);
                }
                let needed = if m * n == 0 { 0 } else { (m - 1) * row_stride + n };
                let write = if add { Write::Add } else { Write::Replace };
                product([m, n, k], &mut padded[32..32 + needed], row_stride, write, a, b);
                for (i, &found) in padded.iter().enumerate() {
                    let place = i.checked_sub(32).filter(|at| *at < needed && at % row_stride < n);
                    let Some(at) = place else {
                        assert_eq!(found, GUARD, "{m} {n} {k} {case}: float {i} is not part of dst");
                        continue;
                    };
                    let (row, column) = (at / row_stride, at % row_stride);
                    let term = |d: usize| {
                        let a = a.data[row * a.row_stride + d * a.column_stride];
                        f64::from(a) * f64::from(b.data[d * b.row_stride + column * b.column_stride])
                    };
                    let old = if add { f64::from(before[at]) } else { 0.0 };
                    let expected = old + (0..k).map(term).sum::<f64>();
                    let error = (f64::from(found) - expected).abs();
                    assert!(error <= 1e-6 * (k + 1) as f64, "{m} {n} {k} {case}: {found} is not {expected}");
                }
            }
        }
    }

    #[test]
    fn matrices_that_do_not_fit_their_slices_are_refused() {
        let data = [0.0f32; 12];
        let good = Matrix { data: &data, row_stride: 4, column_stride: 1 };
        let with = |row_stride: usize, column_stride: usize| Matrix { data: &data, row_stride, column_stride };
        // 3 x 3 matrices in 12 floats with rows 4 apart: all fit with one float to spare.
        let runs = |dst: &mut [f32], row_stride: usize, a: Matrix, b: Matrix| {
            let work = || product([3, 3, 3], dst, row_stride, Write::Replace, a, b);
            catch_unwind(AssertUnwindSafe(work)).is_ok()
        };
        assert!(runs(&mut [0.0; 11], 4, good, good));
        assert!(!runs(&mut [0.0; 10], 4, good, good), "dst one float short");
        assert!(!runs(&mut [0.0; 12], 2, good, good), "rows of dst overlap");
        assert!(!runs(&mut [0.0; 12], usize::MAX, good, good));
        for bad in [with(5, 1), with(4, 2), with(usize::MAX, 1), with(usize::MAX / 2 + 1, 2), with(1, usize::MAX)] {
            assert!(!runs(&mut [0.0; 12], 4, bad, good), "{bad:?}");
            assert!(!runs(&mut [0.0; 12], 4, good, bad), "{bad:?}");
        }
        let short = Matrix { data: &data[..8], row_stride: 0, column_stride: 0 };
        assert!(!runs(&mut [0.0; 12], 4, short, good), "nine elements in eight floats");
        let one_row = |stride: usize| product([1, 1, 1], &mut [0.0], 1, Write::Replace, with(stride, 1), good);
        one_row(isize::MAX as usize);
        assert!(catch_unwind(|| one_row(usize::MAX)).is_err(), "a stride that would turn negative");
        let huge = |m: usize, k: usize| product([m, 1, k], &mut [0.0], 1, Write::Add, with(0, 0), with(0, 0));
        assert!(catch_unwind(|| huge(1, usize::MAX)).is_err(), "more terms than floats");
        assert!(catch_unwind(|| huge(usize::MAX, 1)).is_err(), "more rows than floats");
    }
}
