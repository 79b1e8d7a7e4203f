//! Round trips for every encoding and value type, one refusal per rule, and streams damaged at random.

use super::*;
use half::f16;
use proptest::prelude::*;

fn dense_from(n: usize, positions: &[u32]) -> Vec<f32> {
    let mut dense = vec![0.0; n];
    for (k, &position) in positions.iter().enumerate() {
        dense[position as usize] = (k as f32 + 1.0) * if k % 2 == 0 { 0.1 } else { -0.3 };
    }
    dense
}

fn round_trip(shape: &[usize], dense: &[f32], encoding: Encoding) {
    let (positions, values) = nonzeros(dense);
    let packed = Packed::encode(shape, encoding, &positions, Values::F32(values), None).unwrap();
    assert_eq!(packed.positions.len() + 4 * (1 + packed.nnz()), encoded_bytes(encoding, &positions, dense.len(), 4));
    let back = packed.to_dense(&mut ByteBudget::new(4 * dense.len() as u64)).unwrap();
    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back), bits(dense), "{encoding:?}");
}

#[test]
fn edge_gaps_and_counts_come_back_bit_for_bit() {
    for encoding in Encoding::ALL {
        for gap in [1usize, 2, 14, 15, 16, 17, 29, 30, 31, 45, 254, 255, 256, 510, 511] {
            for count in [0usize, 1, 2, 3, 7, 8] {
                for zeros_after in [0usize, 1, 300] {
                    let positions: Vec<u32> = (1..=count).map(|k| (k * gap - 1) as u32).collect();
                    let n = (count * gap + zeros_after).max(1);
                    round_trip(&[n], &dense_from(n, &positions), encoding);
                }
            }
        }
        let all: Vec<u32> = (0..105).collect();
        round_trip(&[3, 5, 7], &dense_from(105, &all), encoding);
        round_trip(&[], &[4.0], encoding);
    }
}

#[test]
fn int8_weights_are_multiplied_by_the_scale_of_their_row() {
    let values = Values::I8(vec![-128, 127, 3]);
    let scales = Some(vec![0.5, 9.0, 0.25]);
    for encoding in Encoding::ALL {
        let packed = Packed::encode(&[3, 2, 2], encoding, &[0, 3, 9], values.clone(), scales.clone()).unwrap();
        let found: Vec<_> = packed.iter().collect();
        assert_eq!(found, [(0, -64.0), (3, 63.5), (9, 0.75)]);
        assert_eq!(packed.file_bytes(), packed.positions.len() + 4 + 12);
    }
}

#[test]
fn half_values_are_widened_exactly() {
    let values = Values::F16(vec![f16::from_f32(0.1), f16::MIN_POSITIVE]);
    let packed = Packed::encode(&[4], Encoding::Gap4, &[1, 2], values, None).unwrap();
    let expected = [0.0, f16::from_f32(0.1).to_f32(), f16::MIN_POSITIVE.to_f32(), 0.0];
    assert_eq!(packed.to_dense(&mut ByteBudget::default()).unwrap(), expected);
}

#[test]
fn chunks_count_through() {
    let chunk = |position| Packed::encode(&[2, 3], Encoding::Gap8, &[position], Values::F32(vec![1.5]), None).unwrap();
    let found: Vec<_> = concat(&[chunk(5), chunk(0), chunk(4)]).collect();
    assert_eq!(found, [(5, 1.5), (6, 1.5), (16, 1.5)]);
}

fn good(encoding: Encoding) -> Packed {
    let values = Values::F32(vec![1.0, 2.0, 3.0]);
    Packed::encode(&[5, 9], encoding, &[2, 20, 40], values, None).unwrap()
}

fn refused(change: impl Fn(&mut Packed), encoding: Encoding) -> PackedError {
    let mut packed = good(encoding);
    change(&mut packed);
    packed.validate(&mut ByteBudget::default()).unwrap_err()
}

#[test]
fn zero_dimensions_are_refused() {
    let error = refused(|p| p.shape = vec![5, 0], Encoding::Gap4);
    assert_eq!(error, PackedError::ZeroDim { shape: vec![5, 0], axis: 1 });
}

#[test]
fn too_many_elements_are_refused_also_when_the_product_overflows() {
    for shape in [vec![1 << 16, 1 << 15], vec![usize::MAX, 2]] {
        assert_eq!(refused(|p| p.shape.clone_from(&shape), Encoding::Gap4), PackedError::TooManyElements { shape });
    }
}

#[test]
fn a_shape_bomb_meets_the_budget_before_any_allocation() {
    let mut packed = good(Encoding::Gap4);
    packed.shape = vec![16384, 16384, 2];
    let mut budget = ByteBudget::default();
    let expected = PackedError::Budget { needed: 1 << 31, left: 1 << 30 };
    assert_eq!(packed.validate(&mut budget), Err(expected.clone()));
    assert_eq!(packed.to_dense(&mut budget), Err(expected));
    assert_eq!(budget.left(), 1 << 30);
}

#[test]
fn the_budget_is_shared_between_tensors() {
    let packed = good(Encoding::Mask);
    let mut budget = ByteBudget::new(2 * 45 * 4 - 1);
    packed.validate(&mut budget).unwrap();
    assert_eq!(packed.validate(&mut budget), Err(PackedError::Budget { needed: 180, left: 179 }));
}

#[test]
fn position_bytes_must_fit_the_symbol_count_exactly() {
    for encoding in Encoding::ALL {
        for change in [|p: &mut Packed| p.positions.push(0), |p: &mut Packed| p.symbols += 2] {
            assert!(matches!(refused(change, encoding), PackedError::PositionBytes { .. }));
        }
        let error = refused(|p| p.positions.truncate(1), encoding);
        assert!(matches!(error, PackedError::PositionBytes { found: 1, .. }));
    }
}

#[test]
fn a_mask_shorter_than_the_tensor_is_refused() {
    let error = refused(|p| p.shape = vec![1 << 20], Encoding::Mask);
    assert_eq!(error, PackedError::PositionBytes { encoding: "mask", expected: 1 << 17, found: 6 });
}

#[test]
fn padding_must_be_zero() {
    // gaps 3 | 15+3 | 15+5 -> five symbols, so the last high nibble is padding
    let error = refused(|p| *p.positions.last_mut().unwrap() |= 0x10, Encoding::Gap4);
    assert_eq!(error, PackedError::Padding { encoding: "gap4" });
    let error = refused(|p| p.positions[5] |= 1 << 5, Encoding::Mask);
    assert_eq!(error, PackedError::Padding { encoding: "mask" });
}

#[test]
fn a_gap_past_the_end_is_refused() {
    let error = refused(|p| p.positions[0] = 8, Encoding::Gap8);
    assert_eq!(error, PackedError::PastEnd { symbol: 2, position: 45, elements: 45 });
    let skips = refused(|p| (p.positions, p.symbols) = (vec![0; 4], 8), Encoding::Gap4);
    assert_eq!(skips, PackedError::PastEnd { symbol: 3, position: 59, elements: 45 });
}

#[test]
fn a_trailing_skip_is_refused() {
    let error = refused(
        |p| {
            p.positions[0] = 1;
            p.positions[1] = 1;
            p.positions[2] = 0;
            p.shape = vec![1000];
        },
        Encoding::Gap8,
    );
    assert_eq!(error, PackedError::TrailingSkip);
}

#[test]
fn too_many_and_too_few_values_are_refused() {
    for encoding in Encoding::ALL {
        for stored in [2, 4] {
            let error = refused(|p| p.values = Values::F32(vec![1.0; stored]), encoding);
            assert_eq!(error, PackedError::ValueCount { placed: 3, stored });
        }
    }
}

#[test]
fn stored_zeros_and_infinities_are_refused() {
    let error = refused(|p| p.values = Values::F32(vec![1.0, -0.0, 1.0]), Encoding::Gap4);
    assert_eq!(error, PackedError::StoredZero { index: 1 });
    let error = refused(|p| p.values = Values::F32(vec![1.0, 1.0, f32::NAN]), Encoding::Mask);
    assert_eq!(error, PackedError::NotFinite { index: 2 });
}

#[test]
fn scales_must_be_positive_finite_and_one_per_row() {
    let with = |scales: Vec<f32>| {
        move |p: &mut Packed| {
            p.values = Values::I8(vec![1, -2, 3]);
            p.scales = Some(scales.clone());
        }
    };
    assert_eq!(refused(with(vec![1.0; 4]), Encoding::Gap4), PackedError::ScaleCount { expected: 5, found: 4 });
    for bad in [0.0, -1.0, f32::INFINITY, f32::MAX / 64.0] {
        let error = refused(with(vec![1.0, 1.0, 1.0, bad, 1.0]), Encoding::Gap8);
        assert_eq!(error, PackedError::Scale { index: 3, value: bad });
    }
    let error = refused(|p| p.scales = Some(vec![1.0; 5]), Encoding::Gap4);
    assert_eq!(error, PackedError::ScalesWithout8Bit { dtype: "f32" });
}

#[test]
fn the_encoder_refuses_unsorted_and_outside_positions() {
    let encode = |positions: &[u32]| Packed::encode(&[8], Encoding::Gap4, positions, Values::I8(vec![1, 1]), None);
    assert_eq!(encode(&[3, 3]).unwrap_err(), PackedError::Unsorted { index: 1, previous: 3, position: 3 });
    assert_eq!(encode(&[3, 8]).unwrap_err(), PackedError::Outside { position: 8, elements: 8 });
    assert_eq!(encode(&[3]).unwrap_err(), PackedError::ValueCount { placed: 1, stored: 2 });
}

fn weights() -> impl Strategy<Value = Vec<f32>> {
    let weight = |zero: u32, some: u32| prop_oneof![zero => Just(0.0f32), some => any::<f32>().prop_filter("finite", |v| v.is_finite() && *v != 0.0)];
    prop_oneof![
        prop::collection::vec(weight(1, 1), 1..200),
        prop::collection::vec(weight(12, 1), 1..700),
        prop::collection::vec(weight(200, 1), 1..3000),
    ]
}

proptest! {
    #[test]
    fn unpacking_undoes_packing_bit_for_bit(dense in weights()) {
        for encoding in Encoding::ALL {
            round_trip(&[dense.len()], &dense, encoding);
        }
    }

    #[test]
    fn damaged_streams_are_refused_or_decoded_but_never_panic(
        dense in weights(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 0usize..4,
        symbols in prop::option::of(any::<usize>()), last_dim in prop::option::of(any::<usize>()),
    ) {
        let (positions, values) = nonzeros(&dense);
        for encoding in Encoding::ALL {
            let values = Values::F32(values.clone());
            let mut packed = Packed::encode(&[1, dense.len()], encoding, &positions, values, None).unwrap();
            if !packed.positions.is_empty() {
                let at = at.index(packed.positions.len());
                packed.positions[at] = byte;
                packed.positions.truncate(packed.positions.len().saturating_sub(cut));
            }
            packed.symbols = symbols.unwrap_or(packed.symbols);
            packed.shape[1] = last_dim.unwrap_or(packed.shape[1]);
            packed.for_each_nonzero(|_, _| ());
            let budget = 16 * 3000;
            if let Ok(back) = packed.to_dense(&mut ByteBudget::new(budget)) {
                prop_assert!(back.len() as u64 * 4 <= budget);
                prop_assert_eq!(back.iter().filter(|v| **v != 0.0).count(), packed.nnz());
            }
        }
    }
}
