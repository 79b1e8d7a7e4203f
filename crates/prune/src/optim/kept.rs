//! Parameters under a mask: their state, and where possible their gradients, have one number per kept weight, in the order of the
//! file. Removed weights cost neither memory nor time, and nothing can move them.

use std::borrow::Cow;

use sentei_graph::Mask;

use super::factored::Rule;
use crate::threads::{CHUNK, for_each};

/// Flags that are looked at together.
const FLAGS: usize = 8;

/// The numbers of the kept weights, in order.
pub(crate) fn of_kept(values: &[f32], keep: &Mask) -> Vec<f32> {
    let mut kept = Vec::with_capacity(keep.kept());
    kept.extend(values.iter().zip(keep.bits()).filter(|(_, keep)| **keep).map(|(value, _)| *value));
    kept
}

/// A number per weight: those of `kept` in order, and `+0.0` for removed weights.
///
/// # Panics
/// When there are fewer numbers than kept weights.
pub(crate) fn of_all(kept: &[f32], keep: &Mask) -> Vec<f32> {
    let mut next = kept.iter();
    let one = |keep: &bool| if *keep { *next.next().expect("one number per kept weight") } else { 0.0 };
    keep.bits().iter().map(one).collect()
}

/// As [`of_all`], where `values` may be those of all weights already.
pub(super) fn spread<'a>(values: &'a [f32], keep: Option<&Mask>) -> Cow<'a, [f32]> {
    match keep {
        Some(keep) if values.len() != keep.len() => Cow::Owned(of_all(values, keep)),
        _ => Cow::Borrowed(values),
    }
}

/// How many weights are kept before each [`CHUNK`] of them, and in all.
pub(super) fn starts(keep: &Mask) -> Vec<usize> {
    let chunks = keep.bits().chunks(CHUNK).scan(0, |kept, chunk| {
        *kept += chunk.iter().filter(|keep| **keep).count();
        Some(*kept)
    });
    std::iter::once(0).chain(chunks).collect()
}

/// One step of `rule` on the kept weights.
///
/// * `grads`: of all weights or of the kept ones; `first`, `second`: of the kept ones; `second` is empty for a rule without.
/// * `starts`: those of `keep`.
pub(super) fn update(
    rule: impl Rule,
    weights: &mut [f32],
    grads: &[f32],
    [mut first, mut second]: [&mut [f32]; 2],
    (keep, starts): (&[bool], &[usize]),
) {
    let all = grads.len() == weights.len();
    let mut parts = Vec::with_capacity(starts.len());
    for (index, (weights, keep)) in weights.chunks_mut(CHUNK).zip(keep.chunks(CHUNK)).enumerate() {
        let kept = starts[index]..starts[index + 1];
        let grads = if all { &grads[index * CHUNK..][..weights.len()] } else { &grads[kept.clone()] };
        let two = if second.is_empty() { 0 } else { kept.len() };
        let (mine, rest) = std::mem::take(&mut first).split_at_mut(kept.len());
        let (mine_too, rest_too) = std::mem::take(&mut second).split_at_mut(two);
        (first, second) = (rest, rest_too);
        parts.push((weights, keep, grads, mine, mine_too));
    }
    for_each(parts, |(weights, keep, grads, first, second)| {
        let mut at = 0;
        let mut one = |weight: &mut f32, index: usize| {
            let gradient = grads[if all { index } else { at }];
            let old = second.get(at).copied().unwrap_or(0.0);
            let (value, new_first, new_second) = rule.one(*weight, gradient, first[at], old);
            (*weight, first[at]) = (value, new_first);
            if let Some(place) = second.get_mut(at) {
                *place = new_second;
            }
            at += 1;
        };
        let (flags, last) = keep.as_chunks::<FLAGS>();
        for (group, flags) in flags.iter().enumerate() {
            let mut bits = u64::from_le_bytes(flags.map(u8::from));
            while bits != 0 {
                let index = group * FLAGS + bits.trailing_zeros() as usize / 8;
                one(&mut weights[index], index);
                bits &= bits - 1;
            }
        }
        let before = flags.len() * FLAGS;
        for (index, _) in last.iter().enumerate().filter(|(_, keep)| **keep) {
            one(&mut weights[before + index], before + index);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Step;
    use crate::optim::adamw::AdamW;
    use crate::optim::sgd::Sgd;

    #[test]
    fn kept_numbers_go_to_their_weights_and_back() {
        let keep = Mask::from_bits(vec![false, true, true, false, true]);
        assert_eq!(of_kept(&[1.0, 2.0, 3.0, 4.0, 5.0], &keep), [2.0, 3.0, 5.0]);
        assert_eq!(of_all(&[2.0, 3.0, 5.0], &keep), [0.0, 2.0, 3.0, 0.0, 5.0]);
        assert_eq!(starts(&keep), [0, 3]);
        assert_eq!(spread(&[2.0, 3.0, 5.0], Some(&keep)), of_all(&[2.0, 3.0, 5.0], &keep));
        assert!(matches!(spread(&[0.0; 5], Some(&keep)), Cow::Borrowed(_)));
    }

    /// Across chunks, and with flags left over at the end.
    #[test]
    fn kept_weights_move_as_they_would_without_a_mask_whichever_gradients_are_given() {
        let step = Step { learning_rate: 0.1, weight_decay: 0.01, l1: 0.001 };
        let sgd = Sgd { step, momentum: 0.9, nesterov: true };
        moves_alike(sgd, false, |w, g, first, _| sgd.update(w, g, first));
        let adamw = AdamW::new(step, [0.9, 0.999], 1e-8, 3);
        moves_alike(adamw, true, |w, g, first, second| adamw.update(w, g, first, second));
    }

    fn moves_alike(rule: impl Rule, two: bool, whole: impl Fn(&mut [f32], &[f32], &mut [f32], &mut [f32])) {
        let count = 2 * CHUNK + 13;
        let keep = Mask::from_bits((0..count).map(|i| (i * 7 + i / 13) % 10 == 0).collect());
        let noise = |salt: f32| (0..count).map(|i| (i as f32 * salt).sin()).collect::<Vec<f32>>();
        let (start, grads, mut first) = (noise(0.37), noise(0.73), noise(0.11));
        let mut second: Vec<f32> = if two { noise(0.19).iter().map(|v| v.abs()).collect() } else { Vec::new() };
        let kept = |state: &[f32]| if state.is_empty() { Vec::new() } else { of_kept(state, &keep) };
        let before = [kept(&first), kept(&second)];
        let mut plain = start.clone();
        whole(&mut plain, &grads, &mut first, &mut second);
        for grads in [grads.clone(), of_kept(&grads, &keep)] {
            let (mut weights, mut state) = (start.clone(), before.clone());
            let [one, other] = &mut state;
            update(rule, &mut weights, &grads, [one, other], (keep.bits(), &starts(&keep)));
            assert_eq!(state, [kept(&first), kept(&second)]);
            for (i, keep) in keep.bits().iter().enumerate() {
                assert_eq!(weights[i], if *keep { plain[i] } else { start[i] }, "weight {i}");
            }
        }
    }
}
