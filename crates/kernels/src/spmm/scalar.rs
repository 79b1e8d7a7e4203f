//! Portable kernel in safe code; the compiler turns the fixed-size loops into whatever vectors the target has.

use super::Spmm;

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
            for entry in rows.row(block, output) {
                let start = entry.offset as usize + first;
                let x: &[f32; T] = call.x[start..start + T].try_into().expect("the slice is T long");
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum += entry.value * x;
                }
            }
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
