//! Against the definition in f64, gradients against differences of it.

use super::*;
use crate::training::testing::{at, close, every_isa, map, noise, place, threads};
use crate::training::{Gradient, Lanes};

const EPSILON: f32 = 1e-3;

/// Mean and biased variance per channel.
fn plain_moments(planes: Planes, x: &[f64]) -> Vec<(f64, f64)> {
    let of_channel = |c: usize| {
        let pixels = (0..planes.lanes.batch).flat_map(|n| (0..planes.pixels).map(move |p| (n, p)));
        let values: Vec<f64> = pixels.map(|(n, p)| x[at(planes, n, c, p)]).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64)
    };
    (0..planes.channels).map(of_channel).collect()
}

fn bend(f: Piecewise, x: f64) -> f64 {
    match f {
        Piecewise::None => x,
        Piecewise::Leaky { alpha } => x.max(0.0) + f64::from(alpha) * x.min(0.0),
        Piecewise::Clip { min, max } => x.clamp(min.into(), max.into()),
    }
}

fn slope(f: Piecewise, x: f64) -> f64 {
    match f {
        Piecewise::None => 1.0,
        Piecewise::Leaky { alpha } => {
            if x > 0.0 {
                1.0
            } else {
                alpha.into()
            }
        }
        Piecewise::Clip { min, max } => {
            if x > min.into() && x < max.into() {
                1.0
            } else {
                0.0
            }
        }
    }
}

/// What stands before the activation.
fn plain_line(planes: Planes, x: &[f64], gamma: &[f32], beta: &[f32], residual: Option<&[f32]>) -> Vec<f64> {
    let moments = plain_moments(planes, x);
    let value = |i: usize| {
        let (_, c, _) = place(planes, i);
        let (mean, variance) = moments[c];
        let line = f64::from(gamma[c]) * (x[i] - mean) / (variance + f64::from(EPSILON)).sqrt() + f64::from(beta[c]);
        line + residual.map_or(0.0, |residual| residual[i].into())
    };
    (0..x.len()).map(value).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn each() -> impl Iterator<Item = (Planes, Piecewise, bool)> {
    let bends = [
        Piecewise::None,
        Piecewise::Leaky { alpha: 0.0 },
        Piecewise::Leaky { alpha: 0.2 },
        Piecewise::Clip { min: -0.4, max: 0.7 },
    ];
    every_isa([15, 17, 1])
        .flat_map(|(isa, batch)| {
            [(3, 35), (37, 1), (2, 301)].map(|(channels, pixels)| Planes {
                lanes: Lanes::new(isa, batch),
                channels,
                pixels,
            })
        })
        .flat_map(move |planes| bends.map(|bend| (planes, bend)))
        .flat_map(|(planes, bend)| [false, true].map(|residual| (planes, bend, residual)))
}

#[test]
fn statistics_and_outputs_follow_the_definition_and_images_that_do_not_count_do_not() {
    for (planes, activation, with_residual) in each() {
        let name = format!("{planes:?}, {activation:?}, residual: {with_residual}");
        let x: Vec<f32> = map(planes, 1, 1e6).iter().map(|x| 3.0 + x).collect();
        let residual = with_residual.then(|| map(planes, 2, 5.0));
        let (gamma, beta) = (noise(planes.channels, 3), noise(planes.channels, 4));
        let (means, variances): (Vec<f64>, Vec<f64>) = plain_moments(planes, &wide(&x)).into_iter().unzip();
        let line = plain_line(planes, &wide(&x), &gamma, &beta, residual.as_deref());
        let norm = Norm { planes, gamma: &gamma, beta: &beta, epsilon: EPSILON, activation };
        let mut bits: Option<Vec<Vec<f32>>> = None;
        for team in threads() {
            let (mut mean, mut variance, mut y) =
                (vec![9.0; planes.channels], vec![9.0; planes.channels], vec![9.0; x.len()]);
            norm_forward(&team, norm, &x, residual.as_deref(), [&mut mean, &mut variance], &mut y);
            close(&name, &mean, &means, 1e-6);
            close(&name, &variance, &variances, 2e-6);
            for i in (0..y.len()).filter(|i| place(planes, *i).0 < planes.lanes.batch) {
                let expected = bend(activation, line[i]);
                // a single value has variance 0, and its deviation is multiplied with 1 / sqrt(epsilon)
                assert!((f64::from(y[i]) - expected).abs() < 6e-5, "{name}: {} is not {expected}", y[i]);
            }
            // the same in two steps
            let (mut m, mut v, mut again) =
                (vec![9.0; planes.channels], vec![9.0; planes.channels], vec![9.0; x.len()]);
            moments(&team, planes, &x, &mut m, &mut v);
            let (scale, shift): (Vec<f32>, Vec<f32>) = (0..planes.channels).map(|c| norm.line(c, m[c], v[c])).unzip();
            normalise(&team, planes, activation, &x, residual.as_deref(), [&scale, &shift], &mut again);
            assert_eq!((&m, &v, &again), (&mean, &variance, &y), "{name}");
            let all = vec![mean, variance, y];
            assert_eq!(bits.get_or_insert_with(|| all.clone()), &all, "{name}, {} threads", team.threads());
        }
    }
}

#[test]
fn gradients_are_those_of_the_definition() {
    for (planes, activation, with_residual) in each() {
        let name = format!("{planes:?}, {activation:?}, residual: {with_residual}");
        let (channels, count) = (planes.channels, planes.count() as f64);
        let x = map(planes, 1, 0.4);
        let residual = with_residual.then(|| map(planes, 2, 5.0));
        let (gamma, beta, gy) = (noise(channels, 3), noise(channels, 4), map(planes, 5, 0.0));
        let norm = Norm { planes, gamma: &gamma, beta: &beta, epsilon: EPSILON, activation };
        let line = plain_line(planes, &wide(&x), &gamma, &beta, residual.as_deref());
        let g: Vec<f64> = (0..x.len()).map(|i| slope(activation, line[i]) * f64::from(gy[i])).collect();
        let moments = plain_moments(planes, &wide(&x));
        let inverse = |c: usize| 1.0 / (moments[c].1 + f64::from(EPSILON)).sqrt();
        let (mut to_gamma, mut to_beta) = (vec![0.0; channels], vec![0.0; channels]);
        for i in (0..x.len()).filter(|i| place(planes, *i).0 < planes.lanes.batch) {
            let c = place(planes, i).1;
            to_gamma[c] += (f64::from(x[i]) - moments[c].0) * inverse(c) * g[i];
            to_beta[c] += g[i];
        }
        let gx = |i: usize| {
            let (image, c, _) = place(planes, i);
            let normal = (f64::from(x[i]) - moments[c].0) * inverse(c);
            let gx = f64::from(gamma[c]) * inverse(c) * (g[i] - to_beta[c] / count - normal * to_gamma[c] / count);
            if image < planes.lanes.batch { gx } else { 0.0 }
        };
        let gx: Vec<f64> = (0..x.len()).map(gx).collect();
        let mut bits: Option<Vec<Vec<f32>>> = None;
        for team in threads() {
            let (mut mean, mut variance, mut y) = (vec![9.0; channels], vec![9.0; channels], vec![9.0; x.len()]);
            norm_forward(&team, norm, &x, residual.as_deref(), [&mut mean, &mut variance], &mut y);
            let mut all = vec![gy.clone(), vec![9.0; channels], vec![9.0; channels]];
            let [gradient, our_gamma, our_beta] = all.as_mut_slice() else { unreachable!() };
            let mut to_residual = vec![9.0; x.len()];
            let statistics = [&mean[..], &variance];
            let (sums, to) = ([&mut our_gamma[..], our_beta], with_residual.then(|| Gradient::write(&mut to_residual)));
            norm_backward(&team, norm, statistics, (&x, with_residual.then_some(&y[..])), gradient, sums, to);
            close(&name, gradient, &gx, 2e-4);
            close(&name, our_gamma, &to_gamma, 2e-4);
            close(&name, our_beta, &to_beta, 1e-5);
            assert!((0..x.len()).all(|i| place(planes, i).0 < planes.lanes.batch || gradient[i] == 0.0), "{name}");
            if with_residual {
                close(&name, &to_residual, &g, 1e-6);
                let (mut gradient, mut to_residual, mut sums) =
                    (gy.clone(), vec![2.0; x.len()], vec![0.0; 2 * channels]);
                let (to_gamma, to_beta) = sums.split_at_mut(channels);
                let to = Some(Gradient::add(&mut to_residual));
                norm_backward(&team, norm, statistics, (&x, Some(&y)), &mut gradient, [to_gamma, to_beta], to);
                let g: Vec<f64> = g.iter().map(|g| 2.0 + g).collect();
                close(&name, &to_residual, &g, 1e-6);
            }
            assert_eq!(bits.get_or_insert_with(|| all.clone()), &all, "{name}, {} threads", team.threads());
        }
    }
}

#[test]
fn the_slope_found_from_the_input_is_that_of_the_output() {
    for (planes, activation, _) in each().filter(|(_, _, residual)| !residual) {
        let (x, gy) = (map(planes, 1, 0.4), map(planes, 5, 0.0));
        let (gamma, beta) = (noise(planes.channels, 3), noise(planes.channels, 4));
        let norm = Norm { planes, gamma: &gamma, beta: &beta, epsilon: EPSILON, activation };
        let [team, ..] = threads();
        let (mut mean, mut variance, mut y) =
            (vec![9.0; planes.channels], vec![9.0; planes.channels], vec![9.0; x.len()]);
        norm_forward(&team, norm, &x, None, [&mut mean, &mut variance], &mut y);
        let gradients = [None, Some(&y[..])].map(|y| {
            let (mut gradient, mut to_gamma, mut to_beta) = (gy.clone(), mean.clone(), mean.clone());
            norm_backward(&team, norm, [&mean, &variance], (&x, y), &mut gradient, [&mut to_gamma, &mut to_beta], None);
            (gradient, to_gamma, to_beta)
        });
        assert_eq!(gradients[0], gradients[1], "{planes:?}, {activation:?}");
    }
}

#[test]
fn a_large_mean_does_not_spoil_the_variance() {
    for (isa, batch) in every_isa([17]) {
        let planes = Planes { lanes: Lanes::new(isa, batch), channels: 1, pixels: 777 };
        let x: Vec<f32> = map(planes, 1, 0.0).iter().map(|x| 1000.0 + x).collect();
        let (_, variance) = plain_moments(planes, &wide(&x))[0];
        let (mut mean, mut found) = ([0.0], [0.0]);
        moments(&threads()[0], planes, &x, &mut mean, &mut found);
        close(&format!("{isa:?}"), &found, &[variance], 1e-6);
    }
}
