//! Defects and harmless marks, painted onto a surface.
//!
//! Lengths are in pixels of a 64-pixel image. Contrasts are fractions of full scale.

use crate::draws::Draws;
use crate::texture::{Field, Surface, direction, noise, smoothstep};

type Point = (f32, f32);

/// Where paint goes and how much: 0 nothing, 1 all.
struct Stencil(Field);

impl Stencil {
    fn over(field: &Field) -> Stencil {
        Stencil(Field::filled(field.height, field.width, 0.0))
    }

    /// Calls `cover` for the pixels within `reach` of the box `low..high` and keeps the larger cover.
    fn within(&mut self, low: Point, high: Point, reach: f32, cover: impl Fn(f32, f32) -> f32) {
        let range = |from: f32, to: f32, size: usize| {
            let first = (from - reach).floor().clamp(0.0, size as f32) as usize;
            let last = (to + reach + 2.0).floor().clamp(0.0, size as f32) as usize;
            first..last
        };
        for y in range(low.1, high.1, self.0.height) {
            for x in range(low.0, high.0, self.0.width) {
                let value = &mut self.0.data[y * self.0.width + x];
                *value = value.max(cover(x as f32, y as f32));
            }
        }
    }

    /// A straight piece of line with soft edges.
    fn segment(&mut self, a: Point, b: Point, half_width: f32, strength: f32) {
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length_squared = (dx * dx + dy * dy).max(1e-6);
        let low = (a.0.min(b.0), a.1.min(b.1));
        let high = (a.0.max(b.0), a.1.max(b.1));
        self.within(low, high, half_width + 1.0, |x, y| {
            let t = (((x - a.0) * dx + (y - a.1) * dy) / length_squared).clamp(0.0, 1.0);
            let (ex, ey) = (x - a.0 - t * dx, y - a.1 - t * dy);
            let distance = (ex * ex + ey * ey).sqrt();
            strength * (half_width + 0.5 - distance).clamp(0.0, 1.0)
        });
    }

    /// An ellipse whose outline is frayed by `rough` (fraction of its radius) and whose edge is `soft` (likewise) wide.
    fn blob(&mut self, draws: &mut Draws, centre: Point, radii: Point, along: Point, rough: f32, soft: f32) {
        let seed = draws.word();
        let bump = (0.45 * radii.0.min(radii.1)).max(0.8);
        let reach = radii.0.max(radii.1) * (1.0 + rough + soft);
        self.within(centre, centre, reach, |x, y| {
            let (px, py) = (x - centre.0, y - centre.1);
            let u = (px * along.0 + py * along.1) / radii.0;
            let v = (py * along.0 - px * along.1) / radii.1;
            let radius = (u * u + v * v).sqrt() + rough * noise(x / bump, y / bump, seed);
            smoothstep(1.0 + soft, 1.0 - soft, radius)
        });
    }

    /// Adds `contrast` times the cover.
    fn paint(&self, field: &mut Field, contrast: f32) {
        for (value, cover) in field.data.iter_mut().zip(&self.0.data) {
            *value += contrast * cover;
        }
    }
}

fn place(draws: &mut Draws, field: &Field, margin: f32) -> Point {
    let inside = |draws: &mut Draws, size: usize| {
        let size = size as f32;
        draws.between(margin * size, (1.0 - margin) * size)
    };
    let x = inside(draws, field.width);
    (x, inside(draws, field.height))
}

/// The points of a bent line from `start`; each step turns by up to `jitter` turns away from the heading and bends it by `bend`.
fn walk(draws: &mut Draws, start: Point, turns: f32, steps: usize, step: f32, bend: f32, jitter: f32) -> Vec<Point> {
    let mut points = vec![start];
    let (mut heading, mut at) = (turns, start);
    for _ in 0..steps {
        heading += bend;
        let (dx, dy) = direction(heading + draws.between(-jitter, jitter));
        let length = step * draws.between(0.7, 1.3);
        at = (at.0 + dx * length, at.1 + dy * length);
        points.push(at);
    }
    points
}

/// Start of a line of `length` along `turns` whose middle lies inside the image.
fn line_start(draws: &mut Draws, field: &Field, turns: f32, length: f32) -> Point {
    let middle = place(draws, field, 0.22);
    let (dx, dy) = direction(turns);
    (middle.0 - 0.5 * length * dx, middle.1 - 0.5 * length * dy)
}

/// Long, thin, nearly straight; bright or dark, at any angle, stronger here and weaker there.
pub(crate) fn scratch(draws: &mut Draws, surface: &mut Surface, strength: f32) {
    let scale = surface.field.scale();
    let turns = draws.unit();
    let length = draws.between(22.0, 56.0) * scale;
    let steps = 12;
    let bend = draws.between(-0.005, 0.005);
    let half_width = draws.between(0.45, 1.0) * scale;
    let bright = draws.chance(0.86);
    let contrast = strength * draws.between(0.17, 0.34) * if bright { 1.0 } else { -1.0 };
    let start = line_start(draws, &surface.field, turns, length);
    let points = walk(draws, start, turns, steps, length / steps as f32, bend, 0.005);
    // A dark groove mostly throws up a bright burr beside it.
    let ridge = draws.chance(if bright { 0.4 } else { 0.85 });
    let double = draws.chance(0.2).then(|| draws.between(2.5, 6.0) * scale * draws.sign());
    let (nx, ny) = direction(turns + 0.25);
    let seed = draws.word();
    let mut draw = |offset: f32, contrast: f32| {
        let mut stencil = Stencil::over(&surface.field);
        for (i, pair) in points.windows(2).enumerate() {
            let moved = |p: Point| (p.0 + offset * nx, p.1 + offset * ny);
            let pressure = 0.8 + 0.35 * noise(i as f32 * 0.35, offset, seed);
            let end = i.min(steps - 1 - i);
            let taper = if end == 0 { 0.55 } else { 1.0 };
            stencil.segment(moved(pair[0]), moved(pair[1]), half_width, pressure * taper);
        }
        stencil.paint(&mut surface.field, contrast);
    };
    draw(0.0, contrast);
    if ridge {
        draw((half_width + 0.7) * 1.3, -0.4 * contrast);
    }
    if let Some(offset) = double {
        draw(offset, 0.7 * contrast);
    }
}

/// One to four small round holes: dark floor, and a rim that is bright on the side that faces the light.
pub(crate) fn pit(draws: &mut Draws, surface: &mut Surface, strength: f32) {
    let field = &mut surface.field;
    let scale = field.scale();
    let light = direction(draws.unit());
    let contrast = strength * draws.between(0.15, 0.36);
    let rim = strength * draws.between(0.07, 0.2);
    for _ in 0..1 + draws.below(4) {
        let centre = place(draws, field, 0.1);
        let radius = draws.between(1.3, 4.0) * scale;
        let stretch = draws.between(0.85, 1.18);
        let width = draws.between(0.35, 0.6);
        let reach = 2.0 * radius + 2.0;
        let (low, high) = ((centre.0 - reach, centre.1 - reach), (centre.0 + reach, centre.1 + reach));
        let first = |v: f32, size: usize| v.floor().clamp(0.0, size as f32) as usize;
        for y in first(low.1, field.height)..first(high.1 + 1.0, field.height) {
            for x in first(low.0, field.width)..first(high.0 + 1.0, field.width) {
                let (dx, dy) = ((x as f32 - centre.0) * stretch, (y as f32 - centre.1) / stretch);
                let distance = (dx * dx + dy * dy).sqrt();
                let r = distance / radius;
                let floor = smoothstep(1.12, 0.55, r);
                let ring = (1.0 - ((r - 1.25) / width) * ((r - 1.25) / width)).max(0.0);
                let facing = (dx * light.0 + dy * light.1) / (distance + 1e-3);
                field.data[y * field.width + x] += rim * ring * (0.55 + 0.6 * facing) - contrast * floor;
            }
        }
    }
}

/// Foreign matter pressed in: dark irregular blobs strung out, mostly, along the direction of working.
pub(crate) fn inclusion(draws: &mut Draws, surface: &mut Surface, strength: f32) {
    let field = &mut surface.field;
    let scale = field.scale();
    let contrast = -strength * draws.between(0.17, 0.32);
    let along = if draws.chance(0.7) { surface.along } else { direction(draws.unit()) };
    let mut stencil = Stencil::over(field);
    for _ in 0..1 + draws.below(2) {
        let mut at = place(draws, field, 0.18);
        let blobs = 1 + draws.below(5);
        for _ in 0..blobs {
            let long = draws.between(2.4, 6.2) * scale;
            let radii = (long, draws.between(1.3, 2.6) * scale);
            let rough = draws.between(0.3, 0.75);
            let soft = draws.between(0.15, 0.4);
            stencil.blob(draws, at, radii, along, rough, soft);
            let (gap, side) = (long * draws.between(0.8, 1.7), draws.between(-1.3, 1.3) * scale);
            at = (at.0 + gap * along.0 - side * along.1, at.1 + gap * along.1 + side * along.0);
        }
    }
    stencil.paint(field, contrast);
}

/// A jagged dark line that wanders, tapers and branches.
pub(crate) fn crack(draws: &mut Draws, surface: &mut Surface, strength: f32) {
    let field = &mut surface.field;
    let scale = field.scale();
    let contrast = -strength * draws.between(0.17, 0.36);
    let turns = draws.unit();
    let step = draws.between(2.5, 4.5) * scale;
    let length = draws.between(24.0, 56.0) * scale;
    let steps = ((length / step) as usize).clamp(3, 40);
    let jitter = draws.between(0.14, 0.22);
    let half_width = draws.between(0.5, 1.0) * scale;
    let start = line_start(draws, field, turns, length);
    let bend = draws.between(-0.01, 0.01);
    let trunk = walk(draws, start, turns, steps, step, bend, jitter);
    let mut stencil = Stencil::over(field);
    let mut line = |points: &[Point], width: f32| {
        let count = points.len().max(2) as f32;
        for (i, pair) in points.windows(2).enumerate() {
            let left = 1.0 - i as f32 / count;
            stencil.segment(pair[0], pair[1], width * (0.45 + 0.55 * left), 0.6 + 0.4 * left);
        }
    };
    line(&trunk, half_width);
    for (i, &joint) in trunk.iter().enumerate().skip(1) {
        if draws.chance(0.24) {
            let away = turns + draws.sign() * draws.between(0.07, 0.17);
            let branch_steps = 2 + draws.below(((steps - i.min(steps)) / 2).max(2));
            let branch = walk(draws, joint, away, branch_steps, step, 0.0, jitter);
            line(&branch, 0.7 * half_width);
        }
    }
    stencil.paint(field, contrast);
}

/// A wide diffuse region that is brighter or darker and rougher or smoother than its surroundings.
pub(crate) fn patch(draws: &mut Draws, surface: &mut Surface, strength: f32) {
    let field = &mut surface.field;
    let scale = field.scale();
    let centre = place(draws, field, 0.2);
    let radii = (draws.between(9.0, 20.0) * scale, draws.between(7.0, 14.0) * scale);
    let mut stencil = Stencil::over(field);
    let along = direction(draws.unit());
    let rough = draws.between(0.25, 0.6);
    let soft = draws.between(0.12, 0.4);
    stencil.blob(draws, centre, radii, along, rough, soft);
    let contrast = strength * draws.between(0.09, 0.18) * draws.sign();
    let mottle = strength * draws.between(0.0, 0.12);
    let cell = draws.between(1.5, 4.0) * scale;
    let seed = draws.word();
    let smooth = draws.chance(0.35).then(|| draws.between(0.3, 0.8));
    let mean = field.data.iter().sum::<f32>() / field.data.len().max(1) as f32;
    let cover = &stencil.0;
    let width = field.width;
    field.for_each(|x, y, value| {
        let cover = cover.data[y as usize * width + x as usize];
        if let Some(share) = smooth {
            *value += cover * share * strength.min(1.0) * (mean - *value);
        }
        *value += cover * (contrast + mottle * noise(x / cell, y / cell, seed));
    });
}

/// Marks that are no defect: faint lines, dust, pale stains. They occur on every class.
pub(crate) fn distract(draws: &mut Draws, surface: &mut Surface, level: f32) {
    let scale = surface.field.scale();
    let field = &mut surface.field;
    for _ in 0..draws.below(3) {
        let turns = draws.unit();
        let length = draws.between(12.0, 60.0) * scale;
        let start = line_start(draws, field, turns, length);
        let jagged = if draws.chance(0.3) { 0.12 } else { 0.01 };
        let points = walk(draws, start, turns, 12, length / 12.0, 0.0, jagged);
        let contrast = level * draws.between(0.01, 0.04) * draws.sign();
        let half_width = draws.between(0.2, 0.7) * scale;
        let mut stencil = Stencil::over(field);
        for pair in points.windows(2) {
            stencil.segment(pair[0], pair[1], half_width, 1.0);
        }
        stencil.paint(field, contrast);
    }
    for _ in 0..draws.below(5) {
        let at = place(draws, field, 0.02);
        let contrast = level * draws.between(0.06, 0.2) * draws.sign();
        let mut stencil = Stencil::over(field);
        stencil.segment(at, at, draws.between(0.1, 0.75) * scale, 1.0);
        stencil.paint(field, contrast);
    }
    for _ in 0..draws.below(3) {
        let centre = place(draws, field, 0.0);
        let radii = (draws.between(4.0, 18.0) * scale, draws.between(4.0, 14.0) * scale);
        let mut stencil = Stencil::over(field);
        let along = direction(draws.unit());
        stencil.blob(draws, centre, radii, along, 0.35, 0.75);
        stencil.paint(field, level * draws.between(0.01, 0.045) * draws.sign());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(side: usize) -> Surface {
        Surface { field: Field::filled(side, side, 0.5), along: (1.0, 0.0) }
    }

    fn touched(draw: fn(&mut Draws, &mut Surface, f32), seed: u64, strength: f32) -> (usize, f32) {
        let mut surface = flat(64);
        draw(&mut Draws::new(seed, 0), &mut surface, strength);
        let changes: Vec<f32> = surface.field.data.iter().map(|v| v - 0.5).filter(|d| d.abs() > 1e-3).collect();
        (changes.len(), changes.iter().sum())
    }

    #[test]
    fn a_segment_covers_the_pixels_on_it_and_none_beside_it() {
        let mut stencil = Stencil::over(&flat(8).field);
        stencil.segment((1.0, 2.0), (5.0, 2.0), 0.5, 1.0);
        assert_eq!(stencil.0.data[2 * 8 + 3], 1.0);
        assert_eq!(stencil.0.data[2 * 8 + 7], 0.0);
        assert_eq!(stencil.0.data[4 * 8 + 3], 0.0);
    }

    #[test]
    fn cracks_and_inclusions_are_dark_and_patches_are_wider_than_pits() {
        for seed in 0..30 {
            assert!(touched(crack, seed, 1.0).1 < 0.0, "{seed}");
            assert!(touched(inclusion, seed, 1.0).1 < 0.0, "{seed}");
        }
        let area = |draw: fn(&mut Draws, &mut Surface, f32)| (0..30).map(|s| touched(draw, s, 1.0).0).sum::<usize>();
        assert!(area(patch) > 3 * area(pit));
    }

    #[test]
    fn strength_zero_leaves_the_surface_alone() {
        for draw in [scratch, pit, inclusion, crack, patch, distract] {
            assert_eq!(touched(draw, 4, 0.0).0, 0);
        }
    }

    #[test]
    fn tiny_and_oblong_images_do_not_panic() {
        for (height, width) in [(1, 1), (3, 40), (40, 3)] {
            for (seed, draw) in [scratch, pit, inclusion, crack, patch, distract].into_iter().enumerate() {
                let mut surface = Surface { field: Field::filled(height, width, 0.5), along: (1.0, 0.0) };
                draw(&mut Draws::new(seed as u64, 0), &mut surface, 1.0);
                assert!(surface.field.data.iter().all(|v| v.is_finite()));
            }
        }
    }
}
