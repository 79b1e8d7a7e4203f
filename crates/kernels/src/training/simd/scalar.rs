//! Portable: arrays.

super::simd!("nothing in particular", scalar, 4 tile,);

#[inline(always)]
fn pick(a: isa::Vector, b: isa::Vector, yes: isa::Vector, no: isa::Vector) -> isa::Vector {
    std::array::from_fn(|i| if a[i] > b[i] { yes[i] } else { no[i] })
}

#[inline(always)]
fn pick_nan(a: isa::Vector, yes: isa::Vector, no: isa::Vector) -> isa::Vector {
    std::array::from_fn(|i| if a[i].is_nan() { yes[i] } else { no[i] })
}
