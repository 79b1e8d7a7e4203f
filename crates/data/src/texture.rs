//! Metal surfaces without defects: brushing, rolling lines, value noise, grain, uneven light.
//!
//! Only `+ - * /`, `sqrt` and `floor` on `f32` are used, which IEEE 754 fixes to the last bit: every machine gets the same bytes.

use crate::draws::Draws;

/// Grey values of one image while it is made; 0 is black and 1 white, values outside are allowed.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub height: usize,
    pub width: usize,
    pub data: Vec<f32>,
}

impl Field {
    pub(crate) fn filled(height: usize, width: usize, value: f32) -> Field {
        Field { height, width, data: vec![value; height * width] }
    }

    /// Pixels per pixel of a 64-pixel image; lengths are given for 64 pixels and scaled by this.
    pub(crate) fn scale(&self) -> f32 {
        self.height.min(self.width) as f32 / 64.0
    }

    /// Calls `change` with the centre (x, y) of every pixel.
    pub(crate) fn for_each(&mut self, mut change: impl FnMut(f32, f32, &mut f32)) {
        let width = self.width;
        for (y, row) in self.data.chunks_exact_mut(width.max(1)).enumerate() {
            for (x, value) in row.iter_mut().enumerate() {
                change(x as f32, y as f32, value);
            }
        }
    }

    /// Mixes in the 3x3 binomial blur: `(1 - share) * pixel + share * blurred`.
    pub(crate) fn blur(&mut self, share: f32) {
        let (height, width) = (self.height, self.width);
        let mut rows = self.data.clone();
        for (y, row) in rows.chunks_exact_mut(width.max(1)).enumerate() {
            let source = &self.data[y * width..][..width];
            for x in 0..width {
                let (left, right) = (source[x.saturating_sub(1)], source[(x + 1).min(width - 1)]);
                row[x] = 0.25 * left + 0.5 * source[x] + 0.25 * right;
            }
        }
        for y in 0..height {
            let (above, below) = (y.saturating_sub(1) * width, (y + 1).min(height - 1) * width);
            for x in 0..width {
                let mixed = 0.25 * rows[above + x] + 0.5 * rows[y * width + x] + 0.25 * rows[below + x];
                let value = &mut self.data[y * width + x];
                *value += share * (mixed - *value);
            }
        }
    }
}

/// Cosine and sine of an angle in turns; a unit vector to about 1e-6.
pub(crate) fn direction(turns: f32) -> (f32, f32) {
    let quarter = (turns * 4.0 + 0.5).floor();
    let x = (turns - quarter * 0.25) * std::f32::consts::TAU;
    let square = x * x;
    let sin = x * (1.0 - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0)));
    let cos = 1.0 - square / 2.0 * (1.0 - square / 12.0 * (1.0 - square / 30.0));
    match (quarter as i32).rem_euclid(4) {
        0 => (cos, sin),
        1 => (-sin, cos),
        2 => (-cos, -sin),
        _ => (sin, -cos),
    }
}

/// 0 below `low`, 1 above `high`, smooth between; falls when `low > high`.
pub(crate) fn smoothstep(low: f32, high: f32, value: f32) -> f32 {
    let t = ((value - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

fn lattice(x: i32, y: i32, seed: u32) -> f32 {
    let mut hash = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77) ^ seed;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x7FEB_352D);
    hash = (hash ^ (hash >> 15)).wrapping_mul(0x846C_A68B);
    hash ^= hash >> 16;
    (hash >> 8) as f32 * (2.0 / 16_777_216.0) - 1.0
}

/// Smooth noise in `[-1, 1]` with one random value per unit square.
pub(crate) fn noise(x: f32, y: f32, seed: u32) -> f32 {
    let (floor_x, floor_y) = (x.floor(), y.floor());
    let (ix, iy) = (floor_x as i32, floor_y as i32);
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (u, v) = (ease(x - floor_x), ease(y - floor_y));
    let at = |dx: i32, dy: i32| lattice(ix.wrapping_add(dx), iy.wrapping_add(dy), seed);
    let top = at(0, 0) + (at(1, 0) - at(0, 0)) * u;
    let bottom = at(0, 1) + (at(1, 1) - at(0, 1)) * u;
    top + (bottom - top) * v
}

/// A surface and what later steps need to know of it.
pub(crate) struct Surface {
    /// Reflectance.
    pub field: Field,
    /// Unit vector along which it was brushed or rolled.
    pub along: (f32, f32),
}

/// Makes one defect-free surface.
pub(crate) fn surface(draws: &mut Draws, height: usize, width: usize) -> Surface {
    let mut field = Field::filled(height, width, draws.between(0.36, 0.62));
    let scale = field.scale();
    // Parts lie nearly, not exactly, along the image axes.
    let turns =
        if draws.chance(0.75) { 0.25 * draws.below(2) as f32 + draws.between(-0.025, 0.025) } else { draws.unit() };
    let along = direction(turns);
    // How much of each process the part has seen: brushed, rolled, cast.
    let (brushed, rolled, cast) = match draws.below(4) {
        0 => (1.0, 0.25, 0.3),
        1 => (0.35, 1.0, 0.5),
        2 => (0.1, 0.15, 1.0),
        _ => (draws.unit(), draws.unit(), draws.unit()),
    };
    let brush = brushed * draws.between(0.015, 0.055);
    let lines = rolled * draws.between(0.01, 0.04);
    let cloud = cast * draws.between(0.015, 0.05);
    let grain = draws.between(0.005, 0.018);
    let brush_length = draws.between(14.0, 40.0) * scale;
    let brush_width = draws.between(0.8, 1.6) * scale;
    let line_width = draws.between(2.0, 6.5) * scale;
    let cloud_size = draws.between(9.0, 20.0) * scale;
    let persistence = draws.between(0.45, 0.8);
    let seeds: [u32; 8] = std::array::from_fn(|_| draws.word());
    field.for_each(|x, y, value| {
        let u = x * along.0 + y * along.1;
        let v = y * along.0 - x * along.1;
        let streak = noise(u / brush_length, v / brush_width, seeds[0])
            + 0.6 * noise(2.3 * u / brush_length, 2.0 * v / brush_width, seeds[1]);
        let line = noise(u / (6.0 * brush_length), v / line_width, seeds[2]);
        let (mut amplitude, mut frequency, mut clouds) = (1.0, 1.0 / cloud_size, 0.0);
        for seed in &seeds[3..7] {
            clouds += amplitude * noise(x * frequency, y * frequency, *seed);
            amplitude *= persistence;
            frequency *= 2.0;
        }
        *value += brush * streak + lines * line + cloud * clouds;
    });
    for value in &mut field.data {
        *value += grain * draws.normal();
    }
    field.blur(draws.between(0.0, 0.6));
    Surface { field, along }
}

/// Uneven light: a gradient, a wide bright or dark spot, slow waves.
pub(crate) fn illuminate(draws: &mut Draws, field: &mut Field) {
    let side = field.height.max(field.width) as f32;
    let (gx, gy) = direction(draws.unit());
    let slope = draws.between(0.0, 0.30) / side;
    let (cx, cy) = (draws.unit() * field.width as f32, draws.unit() * field.height as f32);
    let radius = draws.between(0.35, 0.9) * side;
    let spot = draws.between(-0.14, 0.16);
    let wave = draws.between(0.0, 0.06);
    let wave_length = draws.between(0.4, 0.8) * side;
    let seed = draws.word();
    let (mid_x, mid_y) = (0.5 * field.width as f32, 0.5 * field.height as f32);
    field.for_each(|x, y, value| {
        let ramp = slope * ((x - mid_x) * gx + (y - mid_y) * gy);
        let distance = (x - cx) * (x - cx) + (y - cy) * (y - cy);
        let glow = spot * smoothstep(radius * radius, 0.0, distance);
        *value *= 1.0 + ramp + glow + wave * noise(x / wave_length, y / wave_length, seed);
    });
}

/// The camera: gain about mid grey, focus, sensor noise, 8 bits.
pub(crate) fn photograph(draws: &mut Draws, field: &mut Field) -> Vec<u8> {
    field.blur(draws.between(0.0, 0.6));
    let gain = draws.between(0.75, 1.3);
    let level = draws.between(-0.08, 0.08);
    let sensor = draws.between(0.006, 0.018);
    let pixels = field.data.iter().map(|&value| {
        let exposed = (value - 0.5) * gain + 0.5 + level + sensor * draws.normal();
        (exposed * 255.0 + 0.5).clamp(0.0, 255.0) as u8
    });
    pixels.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direction_agrees_with_libm_to_a_millionth() {
        for step in -50..=50 {
            let turns = step as f32 * 0.037;
            let (cos, sin) = direction(turns);
            let angle = f64::from(turns) * std::f64::consts::TAU;
            assert!((f64::from(cos) - angle.cos()).abs() < 3e-6, "{turns}");
            assert!((f64::from(sin) - angle.sin()).abs() < 3e-6, "{turns}");
        }
    }

    #[test]
    fn noise_meets_its_lattice_values_and_stays_in_range() {
        assert_eq!(noise(3.0, -2.0, 5), lattice(3, -2, 5));
        for step in 0..500 {
            let value = noise(step as f32 * 0.17 - 40.0, step as f32 * 0.31, 9);
            assert!((-1.0..=1.0).contains(&value));
        }
    }

    #[test]
    fn blur_keeps_a_flat_field_and_spreads_a_dot() {
        let mut flat = Field::filled(3, 5, 0.5);
        flat.blur(1.0);
        assert!(flat.data.iter().all(|&v| v == 0.5));
        let mut dot = Field::filled(3, 3, 0.0);
        dot.data[4] = 16.0;
        dot.blur(1.0);
        assert_eq!(dot.data, [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0]);
    }

    #[test]
    fn one_pixel_surfaces_do_not_panic() {
        for (height, width) in [(1, 1), (1, 9), (7, 2)] {
            let mut made = surface(&mut Draws::new(1, 0), height, width);
            illuminate(&mut Draws::new(2, 0), &mut made.field);
            assert_eq!(photograph(&mut Draws::new(3, 0), &mut made.field).len(), height * width);
        }
    }
}
