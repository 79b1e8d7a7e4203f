//! Portable kernel in safe code; the compiler turns the fixed-size loops into whatever vectors the target has.

use super::{Entry, Spmm};

const TILE: usize = 32;

pub(super) fn run(call: &mut Spmm<'_>) {
    let mut first = 0;
    while first < call.pixels {
        first += match call.pixels - first {
            TILE.. => tile::<TILE>(call, first),
            16.. => tile::<16>(call, first),
            8.. => tile::<8>(call, first),
            4.. => tile::<4>(call, first),
            _ => tile::<1>(call, first),
        };
    }
}

/// Computes the `T` pixels from `first` of every row and returns `T`.
fn tile<const T: usize>(call: &mut Spmm<'_>, first: usize) -> usize {
    let rows = call.rows;
    for block in 0..rows.blocks() {
        let last = block + 1 == rows.blocks();
        for (output, bias) in rows.bias().iter().enumerate() {
            let start = output * call.stride + first;
            let mut sums = [*bias; T];
            if block > 0 {
                sums.copy_from_slice(&call.y[start..start + T]);
            }
            sums = add_entries(sums, rows.row(block, output), &call.x[first.min(call.x.len())..]);
            if last {
                let residual = call.residual.map(|residual| &residual[start..start + T]);
                call.activation.store(&sums, residual, &mut call.y[start..start + T]);
            } else {
                call.y[start..start + T].copy_from_slice(&sums);
            }
        }
    }
    T
}

/// On its own and not inlined, because the compiler then keeps the sums in vector registers.
#[inline(never)]
fn add_entries<const T: usize>(mut sums: [f32; T], entries: &[Entry], x: &[f32]) -> [f32; T] {
    for entry in entries {
        let x = &x[entry.offset as usize..][..T];
        for p in 0..T {
            sums[p] += entry.value * x[p];
        }
    }
    sums
}
