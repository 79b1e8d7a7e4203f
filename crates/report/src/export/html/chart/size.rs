//! Bytes of each file by purpose, as stacked bars on one scale.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Chart, Drawn, INK, Legend, PARTS, draw, text};
use crate::error::ReportError;
use crate::format::bytes;
use crate::record::RunRecord;
use crate::tables::size_parts;

const ROW: i32 = 58;
const WIDTH: i32 = 980;
/// Pixels kept free at the right for the total.
const TOTAL: i32 = 110;

/// The chart; `None` when no variant tells its bytes by purpose.
pub(crate) fn size(record: &RunRecord) -> Result<Option<Chart>, ReportError> {
    let variants: Vec<_> = record.variants().filter(|variant| !variant.size.is_empty()).collect();
    let parts = size_parts(record);
    let total = |variant: &crate::record::Variant| variant.size.iter().map(|part| part.bytes).sum::<u64>();
    let largest = variants.iter().map(|variant| total(variant)).max().unwrap_or(0);
    if largest == 0 {
        return Ok(None);
    }
    let scale = |bytes: u64| (bytes as f64 / largest as f64 * f64::from(WIDTH - TOTAL)).round() as i32;
    let svg = draw("size", (WIDTH as u32, ROW as u32 * variants.len() as u32), |area| -> Drawn {
        for (index, variant) in variants.iter().enumerate() {
            let top = ROW * index as i32;
            area.draw(&Text::new(variant.name.clone(), (0, top + 4), text(INK, 14, HPos::Left, VPos::Top)))?;
            let mut done = 0;
            for (part, paint) in parts.iter().zip(PARTS.iter().cycle()) {
                let bytes: u64 = variant.size.iter().filter(|p| p.part == *part).map(|p| p.bytes).sum();
                let corners = [(scale(done), top + 24), (scale(done + bytes), top + 48)];
                done += bytes;
                area.draw(&Rectangle::new(corners, paint.rgb.filled()))?;
            }
            let end = scale(done) + 8;
            area.draw(&Text::new(bytes(done), (end, top + 36), text(INK, 14, HPos::Left, VPos::Center)))?;
        }
        Ok(())
    })?;
    let legend = parts.iter().zip(PARTS.iter().cycle()).map(|(part, &paint)| Legend::new(paint, part)).collect();
    Ok(Some(Chart { svg, legend, caption: "Bytes of each model file by purpose, all on one scale.".into() }))
}
