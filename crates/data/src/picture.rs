//! One image: decoding PNG, JPEG, BMP and PNM, grey and colour, resizing, PNG out.

use crate::error::DataError;
use image::imageops::{self, FilterType};
use image::{ColorType, DynamicImage, GrayImage, ImageEncoder, ImageReader, Limits, RgbImage};
use std::io::Cursor;
use std::path::Path;

/// Longest side, in pixels, an image may have.
const MAX_SIDE: u32 = 1 << 14;
/// Bytes one decoded image may take before it is resized.
const MAX_DECODED_BYTES: u64 = 512 << 20;

/// Pixels of one image, `[channel, row, column]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Pixels per column.
    pub height: usize,
    /// Pixels per row.
    pub width: usize,
    /// Pixels, planar.
    pub pixels: Vec<u8>,
}

/// Reads one image file and brings it to `channels` (1 or 3) and `size` (height, width).
///
/// # Errors
/// [`DataError::Io`] when the file cannot be read, [`DataError::Image`] when it is no image,
/// [`DataError::Option`] when `channels` is neither 1 nor 3 or a side is 0.
pub fn read_picture(path: &Path, channels: usize, size: (usize, usize)) -> Result<Picture, DataError> {
    check_shape(Some(size), Some(channels))?;
    let bytes = std::fs::read(path).map_err(DataError::io(path, u64::MAX))?;
    let picture = decode(&path.display().to_string(), &bytes)?;
    Ok(picture.with_channels(channels).resized(size))
}

pub(crate) fn check_shape(size: Option<(usize, usize)>, channels: Option<usize>) -> Result<(), DataError> {
    if let Some((height, width)) = size {
        let allowed = 1..=MAX_SIDE as usize;
        if !allowed.contains(&height) || !allowed.contains(&width) {
            return Err(DataError::Option(format!("--size {height}x{width}: sides must be in 1..={MAX_SIDE}")));
        }
    }
    match channels {
        None | Some(1 | 3) => Ok(()),
        Some(other) => Err(DataError::Option(format!("channels must be 1 or 3, found {other}"))),
    }
}

/// Decodes a PNG, JPEG, BMP or PNM file. Alpha is ignored, 16 bits become 8, colour that is grey everywhere becomes one channel.
pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Picture, DataError> {
    let fault = |reason: String| DataError::Image { name: name.to_string(), reason };
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| fault(e.to_string()))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(|e| fault(e.to_string()))?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    if height == 0 || width == 0 {
        return Err(fault(format!("is {height}x{width} pixels")));
    }
    let grey = matches!(image.color(), ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16);
    if grey {
        return Ok(Picture { channels: 1, height, width, pixels: image.into_luma8().into_raw() });
    }
    let interleaved = image.into_rgb8().into_raw();
    if interleaved.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]) {
        let pixels = interleaved.chunks_exact(3).map(|p| p[0]).collect();
        return Ok(Picture { channels: 1, height, width, pixels });
    }
    Ok(Picture { channels: 3, height, width, pixels: planar(&interleaved) })
}

fn planar(interleaved: &[u8]) -> Vec<u8> {
    (0..3).flat_map(|channel| interleaved.iter().skip(channel).step_by(3).copied()).collect()
}

impl Picture {
    /// Grey becomes three equal channels; colour becomes luma, `(299 r + 587 g + 114 b) / 1000` rounded.
    pub(crate) fn with_channels(self, channels: usize) -> Picture {
        let plane = self.height * self.width;
        let pixels = match (self.channels, channels) {
            (1, 3) => self.pixels.repeat(3),
            (3, 1) => (0..plane)
                .map(|i| {
                    let at = |channel: usize| u32::from(self.pixels[channel * plane + i]);
                    ((299 * at(0) + 587 * at(1) + 114 * at(2) + 500) / 1000) as u8
                })
                .collect(),
            _ => self.pixels,
        };
        Picture { channels, pixels, ..self }
    }

    /// Resized with a triangle filter that widens when shrinking, so that thin lines fade instead of vanishing.
    pub(crate) fn resized(self, (height, width): (usize, usize)) -> Picture {
        if (self.height, self.width) == (height, width) {
            return self;
        }
        let plane = self.height * self.width;
        let pixels = self
            .pixels
            .chunks_exact(plane)
            .flat_map(|channel| {
                let image = GrayImage::from_raw(self.width as u32, self.height as u32, channel.to_vec())
                    .expect("a plane holds height * width bytes");
                imageops::resize(&image, width as u32, height as u32, FilterType::Triangle).into_raw()
            })
            .collect();
        Picture { channels: self.channels, height, width, pixels }
    }
}

/// PNG file of planar pixels.
pub(crate) fn png(pixels: &[u8], channels: usize, height: usize, width: usize) -> Vec<u8> {
    let (rows, columns) = (height as u32, width as u32);
    let image = if channels == 1 {
        GrayImage::from_raw(columns, rows, pixels.to_vec()).map(DynamicImage::from)
    } else {
        let plane = height * width;
        let interleaved = (0..plane).flat_map(|i| (0..3).map(move |c| pixels[c * plane + i])).collect();
        RgbImage::from_raw(columns, rows, interleaved).map(DynamicImage::from)
    };
    let image = image.expect("pixels hold channels * height * width bytes");
    let mut out = Vec::new();
    image::codecs::png::PngEncoder::new(&mut out)
        .write_image(image.as_bytes(), columns, rows, image.color().into())
        .expect("writing to memory does not fail");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(channels: usize, height: usize, width: usize, pixels: &[u8]) -> Picture {
        Picture { channels, height, width, pixels: pixels.to_vec() }
    }

    #[test]
    fn colour_png_keeps_its_planes_and_grey_colour_becomes_one_channel() {
        let colour = [10, 20, 30, 40, 50, 60];
        assert_eq!(decode("c", &png(&colour, 3, 1, 2)).unwrap(), picture(3, 1, 2, &colour));
        assert_eq!(decode("g", &png(&[9, 8, 9, 8, 9, 8], 3, 1, 2)).unwrap(), picture(1, 1, 2, &[9, 8]));
    }

    #[test]
    fn luma_of_pure_colours_matches_the_weights() {
        let mixed = picture(3, 1, 3, &[255, 0, 0, 0, 255, 0, 0, 0, 255]).with_channels(1);
        assert_eq!(mixed.pixels, [76, 150, 29]);
        assert_eq!(picture(1, 1, 2, &[4, 5]).with_channels(3).pixels, [4, 5, 4, 5, 4, 5]);
    }

    #[test]
    fn resizing_a_flat_image_keeps_its_value_and_gives_the_asked_shape() {
        let out = picture(3, 5, 7, &[80; 105]).resized((3, 2));
        assert_eq!(out, picture(3, 3, 2, &[80; 18]));
    }

    #[test]
    fn shrinking_averages_the_pixels_it_covers() {
        let out = picture(1, 1, 4, &[0, 0, 200, 200]).resized((1, 2));
        assert!(out.pixels[0] < 60 && out.pixels[1] > 140, "{:?}", out.pixels);
    }

    #[test]
    fn a_broken_image_is_named_in_the_error() {
        let mut bytes = png(&[1; 16], 1, 4, 4);
        bytes.truncate(bytes.len() / 2);
        let error = decode("bad/one.png", &bytes).unwrap_err().to_string();
        assert!(error.contains("bad/one.png"), "{error}");
        assert!(decode("empty.png", &[]).is_err());
    }

    #[test]
    fn a_header_that_claims_a_huge_image_is_refused_before_allocation() {
        let error = decode("huge.pgm", b"P5\n16000 16000\n255\nshort").unwrap_err();
        assert!(matches!(error, DataError::Image { .. }), "{error}");
        assert!(decode("wide.pgm", b"P5\n400000 1\n255\nshort").is_err());
    }
}
