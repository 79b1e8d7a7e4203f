use sentei_kernels::team::Team;
use sentei_kernels::training::Lanes;
pub(super) fn to_lanes(_: &Team, lanes: Lanes, pixels: usize, from: &[f32], to: &mut [f32]) {
    let l = lanes.lanes;
    to.fill(0.0);
    for n in 0..lanes.batch {
        for p in 0..pixels {
            to[(n / l * pixels + p) * l + n % l] = from[n * pixels + p];
        }
    }
}
pub(super) fn from_lanes(_: &Team, lanes: Lanes, pixels: usize, from: &[f32], to: &mut [f32]) {
    let l = lanes.lanes;
    for n in 0..lanes.batch {
        for p in 0..pixels {
            to[n * pixels + p] = from[(n / l * pixels + p) * l + n % l];
        }
    }
}
