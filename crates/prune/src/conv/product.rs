//! Matrix products on one thread: the only place that reaches the `gemm` library.
//!
//! `gemm`'s own entry point is `unsafe`; candle's CPU storage offers the same kernels behind a checked one. The price is that
//! the product comes back in a fresh vector.

use std::sync::Once;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout, Result, bail};

/// A matrix inside a storage.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub storage: &'a CpuStorage,
    pub offset: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other, `columns` apart.
    pub fn rows(storage: &'a CpuStorage, offset: usize, columns: usize) -> Self {
        Matrix { storage, offset, row_stride: columns, column_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Matrix { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    fn layout(&self, rows: usize, columns: usize) -> Layout {
        Layout::new((rows, columns).into(), vec![self.row_stride, self.column_stride], self.offset)
    }
}

/// `a b`, row-major, for `a` of `m x k` and `b` of `k x n`; always on the calling thread.
pub(super) fn product(a: Matrix, b: Matrix, [m, n, k]: [usize; 3]) -> Result<Vec<f32>> {
    static SINGLE_THREADED: Once = Once::new();
    // The callers are parallel over images already; a product that forks again would only wait for its own workers.
    SINGLE_THREADED.call_once(|| gemm::set_threading_threshold(usize::MAX));
    if m * n * k == 0 {
        return Ok(vec![0.0; m * n]);
    }
    match a.storage.matmul(b.storage, (1, m, n, k), &a.layout(m, k), &b.layout(k, n))? {
        CpuStorage::F32(out) => Ok(out),
        other => bail!("a product of f32 matrices came back as {:?}", other.dtype()),
    }
}
