//! How rectangles are cut into tiles, and source channels into chunks: what keeps the multipliers busiest.

use std::collections::HashMap;
use std::ops::Range;

use super::rects::Rect;
use super::tiles::PIECES;

/// Bytes of a chunk's window (all that a tile reads), and the cycles that a multiply-add takes if it is no larger. The first level of
/// the cache holds 30 KB of it beside sums and weights; the further beyond, the more addresses have to be looked up as well.
///
/// Measured on a Xeon with 48 KB and 2 MB, whose other processors are like it: 512 -> 512 3x3 on 4x4 makes 47 GFLOP/s with 2 MB, 64 with
/// 190 KB, 80 with 80 KB.
const WINDOWS: [(usize, f64); 4] = [(30 << 10, 0.62), (80 << 10, 0.76), (160 << 10, 0.88), (usize::MAX, 1.2)];
/// Cycles that a turn of a tile costs beside its multiply-adds and sums: the end of its loop is hard to foresee.
const TURN: f64 = 14.0;
/// Cycles a multiply-add waits for the one before it.
const WAIT: f64 = 4.0;
/// Cycles to find where a further piece begins.
const PIECE: f64 = 0.2;

/// A tile: some pieces, each some vectors side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub pieces: usize,
    pub width: usize,
}

/// What one direction of a layer reads and writes, and how sparse it is.
#[derive(Clone, Debug)]
pub(super) struct Maps {
    /// Vectors of the source: columns of a row, pixels of a channel, pixels of a block of images.
    pub from: [usize; 3],
    /// The same of the result.
    pub to: [usize; 3],
    pub blocks: usize,
    /// Elements of a vector.
    pub lanes: usize,
    /// Source channels that one output channel sees.
    pub depth: usize,
    /// Of the weights, survivors.
    pub density: f64,
}

/// Where a tile is: elements from the start of a channel in the first block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub from: usize,
    pub to: usize,
    pub shape: u32,
}

/// What tiles have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub pieces: usize,
    pub width: usize,
    /// Elements from the first piece to each, in the source and in the result.
    pub from: [usize; PIECES],
    pub to: [usize; PIECES],
}

impl Maps {
    /// Vectors a tile reads of every source channel.
    fn window(&self, rect: &Rect, form: Form) -> usize {
        let extent = |taps: &[Option<usize>]| {
            let first = taps.iter().flatten().min().copied().unwrap_or(0);
            taps.iter().flatten().max().map_or(0, |last| last - first + 1)
        };
        let (rows, cols) = (extent(&rect.down.taps), extent(&rect.right.taps));
        let mut left = form.pieces;
        let mut take = |most: usize| {
            let taken = left.min(most);
            left = left.div_ceil(taken);
            taken
        };
        let across = if rect.right.from_step == 1 { form.width } else { take(rect.right.count) };
        let high = (take(rect.down.count) - 1) * rect.down.from_step + rows;
        let wide = (across - 1) * rect.right.from_step + cols;
        take(self.blocks) * (high * wide).min(self.from[1])
    }

    /// Rows of a rectangle are pieces' vectors if their sources lie side by side, else each pixel is a piece.
    fn rows(rect: &Rect) -> (usize, usize) {
        if rect.right.from_step == 1 { (1, rect.right.count) } else { (rect.right.count, 1) }
    }

    /// Cycles of all tiles of `rect`, per output channel, in chunks of `chunk` source channels.
    fn cycles(&self, rect: &Rect, form: Form, chunk: usize) -> f64 {
        let (per_row, across) = Self::rows(rect);
        let count = per_row * rect.down.count;
        let groups = groups(count, self.blocks, form.pieces).count();
        let tiles = (groups * across.div_ceil(form.width)) as f64;
        let vectors = (count * self.blocks * across) as f64 / tiles;
        let pieces = (count * self.blocks) as f64 / groups as f64;
        let taps = rect.down.taps.iter().flatten().count() * rect.right.taps.iter().flatten().count();
        let entries = (self.depth * taps) as f64 * self.density;
        let bytes = self.window(rect, form) * chunk * self.lanes * size_of::<f32>();
        let multiply = WINDOWS.iter().find(|(most, _)| bytes <= *most).map_or(WAIT, |(_, cycles)| *cycles);
        let entry = WAIT.max((vectors + 2.5) * multiply) + PIECE * (pieces - 1.0);
        tiles * (entries * entry + self.depth.div_ceil(chunk) as f64 * (TURN + 1.8 * vectors))
    }

    fn forms(widths: &[usize]) -> impl Iterator<Item = Form> {
        widths.iter().zip(1..).flat_map(|(most, pieces)| (1..=*most).map(move |width| Form { pieces, width }))
    }

    /// The best form for `rect` in chunks of `chunk` source channels.
    pub fn form(&self, rect: &Rect, widths: &[usize], chunk: usize) -> (Form, f64) {
        let across = Self::rows(rect).1;
        let of = |form: Form| (form, self.cycles(rect, form, chunk));
        let fits = Self::forms(widths).filter(|form| form.width <= across);
        let first = (Form { pieces: 1, width: 1 }, f64::INFINITY);
        fits.map(of).fold(first, |best, other| if other.1 < best.1 { other } else { best })
    }

    /// Source channels per chunk that suit the rectangles best, which are all of the result.
    pub fn chunk(&self, rects: &[Rect], widths: &[usize]) -> usize {
        let Some(main) = rects.iter().max_by_key(|rect| rect.pixels()) else { return self.depth };
        let mut candidates = Vec::new();
        for form in Self::forms(widths).filter(|form| form.width <= Self::rows(main).1) {
            for (bytes, _) in WINDOWS {
                let most = bytes / (self.window(main, form).max(1) * self.lanes * size_of::<f32>());
                let chunks = self.depth.div_ceil(most.clamp(1, self.depth));
                candidates.push(self.depth.div_ceil(chunks));
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        let cycles = |chunk: usize| rects.iter().map(|rect| self.form(rect, widths, chunk).1).sum::<f64>();
        let of = |chunk: usize| (chunk, cycles(chunk));
        let first = (self.depth, f64::INFINITY);
        candidates.into_iter().rev().map(of).fold(first, |best, other| if other.1 < best.1 { other } else { best }).0
    }

    /// The tiles of `rect`; adds to `shapes`.
    pub fn tiles(&self, rect: &Rect, form: Form, shapes: &mut Shapes) -> Vec<Tile> {
        let (per_row, across) = Self::rows(rect);
        let count = per_row * rect.down.count;
        let place = |piece: usize| {
            let (col, row) = (piece % per_row, piece / per_row % rect.down.count);
            let block = piece / (per_row * rect.down.count);
            let from = block * self.from[2] + row * rect.down.from_step * self.from[0] + col * rect.right.from_step;
            let to = (rect.down.to + row * rect.down.to_step) * self.to[0] + rect.right.to + col * rect.right.to_step;
            (from * self.lanes, (block * self.to[2] + to) * self.lanes)
        };
        let mut tiles = Vec::new();
        for pieces in groups(count, self.blocks, form.pieces) {
            for vectors in even(across, form.width) {
                let (from, to) = place(pieces.start);
                let width = vectors.len();
                let mut shape = Shape { pieces: pieces.len(), width, from: [0; PIECES], to: [0; PIECES] };
                for (slot, piece) in pieces.clone().enumerate() {
                    let other = place(piece);
                    // where no tap counts, nothing is read, and rows of sources may overlap
                    (shape.from[slot], shape.to[slot]) = (other.0.wrapping_sub(from), other.1 - to);
                }
                let right = [vectors.start * self.lanes, vectors.start * rect.right.to_step * self.lanes];
                tiles.push(Tile { from: from + right[0], to: to + right[1], shape: shapes.number(shape) });
            }
        }
        tiles
    }
}

/// `0..count` in as few parts of at most `most` as there can be, the longest one longer than the shortest at most.
fn even(count: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = count.div_ceil(most);
    (0..parts).map(move |part| part * count / parts..(part + 1) * count / parts)
}

/// Pieces of `blocks` blocks of `count` in groups of at most `most`: of one block or of whole blocks.
fn groups(count: usize, blocks: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let together = (most / count).max(1);
    even(blocks, together).flat_map(move |blocks| {
        let pieces = even(count * blocks.len(), most);
        pieces.map(move |pieces| blocks.start * count + pieces.start..blocks.start * count + pieces.end)
    })
}

/// Shapes by number, each once.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    pub all: Vec<Shape>,
    numbers: HashMap<Shape, u32>,
}

impl Shapes {
    fn number(&mut self, shape: Shape) -> u32 {
        *self.numbers.entry(shape).or_insert_with(|| {
            self.all.push(shape);
            (self.all.len() - 1) as u32
        })
    }
}
