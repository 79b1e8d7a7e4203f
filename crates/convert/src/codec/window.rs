//! What convolutions and pools share: `pads`, `auto_pad` and `ceil_mode`, resolved to top, left, bottom, right.

use crate::ConvertError;
use crate::call::Call;
use crate::proto::AttributeProto;

/// Height and width of an image batch.
pub(super) fn image(call: &Call, shape: &[usize]) -> Result<[usize; 2], ConvertError> {
    match *shape {
        [_, _, h, w] => Ok([h, w]),
        _ => Err(call.refuse("input 0", "a 2-D image batch [N, C, H, W]", format!("{shape:?}"))),
    }
}

/// Padding of a window sliding over `image`.
pub(super) fn pads(
    call: &Call,
    image: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
) -> Result<[usize; 4], ConvertError> {
    let same = |lower: bool| {
        let mut pads = [0; 4];
        for axis in 0..2 {
            let outputs = image[axis].div_ceil(stride[axis]);
            let reach = (outputs.max(1) - 1) * stride[axis] + span(kernel[axis], dilation[axis]);
            let total = reach.saturating_sub(image[axis]);
            let before = if lower { total - total / 2 } else { total / 2 };
            (pads[axis], pads[axis + 2]) = (before, total - before);
        }
        pads
    };
    match call.text("auto_pad").unwrap_or("NOTSET") {
        "NOTSET" | "" => call.sizes("pads", 0),
        "VALID" => Ok([0; 4]),
        "SAME_UPPER" => Ok(same(false)),
        "SAME_LOWER" => Ok(same(true)),
        other => Err(call.refuse("attribute `auto_pad`", "NOTSET, VALID, SAME_UPPER or SAME_LOWER", other)),
    }
}

/// Rows and columns that `ceil_mode` adds below and to the right.
pub(super) fn ceil_extra(image: [usize; 2], kernel: [usize; 2], stride: [usize; 2], pads: [usize; 4]) -> [usize; 2] {
    let mut extra = [0; 2];
    for axis in 0..2 {
        let (before, padded) = (pads[axis], image[axis] + pads[axis] + pads[axis + 2]);
        let Some(free) = padded.checked_sub(kernel[axis]) else { continue };
        let mut outputs = free.div_ceil(stride[axis]) + 1;
        // a window that would start in the padding at the end is left out
        if (outputs - 1) * stride[axis] >= image[axis] + before {
            outputs -= 1;
        }
        extra[axis] = ((outputs - 1) * stride[axis] + kernel[axis]).saturating_sub(padded);
    }
    extra
}

/// Pixels that a dilated kernel covers.
fn span(kernel: usize, dilation: usize) -> usize {
    kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1)
}

/// `strides` and `pads`, left out where they are the defaults.
pub(super) fn attributes(stride: [usize; 2], pads: [usize; 4]) -> Vec<AttributeProto> {
    let mut attributes = Vec::new();
    if stride != [1, 1] {
        attributes.push(AttributeProto::ints("strides", stride));
    }
    if pads != [0; 4] {
        attributes.push(AttributeProto::ints("pads", pads));
    }
    attributes
}

/// Kernel, stride and pads of a pool, and what `ceil_mode` adds.
pub(super) struct Pool {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub pads: [usize; 4],
    pub extra: [usize; 2],
}

/// Reads the attributes that both pools have.
pub(super) fn pool(call: &Call, shape: &[usize]) -> Result<Pool, ConvertError> {
    let image = image(call, shape)?;
    if call.ints("kernel_shape").is_none_or(<[i64]>::is_empty) {
        return Err(call.refuse("attribute `kernel_shape`", "two lengths", "nothing"));
    }
    let kernel = call.steps("kernel_shape")?;
    let stride = call.steps("strides")?;
    if call.steps("dilations")? != [1, 1] {
        return Err(call.refuse("attribute `dilations`", "1", "more"));
    }
    let pads = pads(call, image, kernel, stride, [1, 1])?;
    let extra = if call.flag("ceil_mode") { ceil_extra(image, kernel, stride, pads) } else { [0; 2] };
    Ok(Pool { kernel, stride, pads, extra })
}

impl Pool {
    /// Padding with the part that `ceil_mode` adds.
    pub fn all_pads(&self) -> [usize; 4] {
        let [top, left, bottom, right] = self.pads;
        [top, left, bottom + self.extra[0], right + self.extra[1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::NodeProto;

    fn padded(mode: &str, image: usize, kernel: usize, stride: usize, dilation: usize) -> [usize; 4] {
        let attribute = AttributeProto { s: Some(mode.into()), name: Some("auto_pad".into()), ..Default::default() };
        let node = NodeProto::standard("Conv", &[], "y", vec![attribute]);
        let call = Call { node: &node, index: 0, opset: 13 };
        pads(&call, [image, image], [kernel; 2], [stride; 2], [dilation; 2]).unwrap()
    }

    #[test]
    fn same_padding_puts_the_odd_pixel_where_its_name_says() {
        assert_eq!(padded("SAME_UPPER", 32, 3, 2, 1), [0, 0, 1, 1]);
        assert_eq!(padded("SAME_LOWER", 32, 3, 2, 1), [1, 1, 0, 0]);
        assert_eq!(padded("SAME_UPPER", 7, 3, 1, 2), [2, 2, 2, 2]);
        assert_eq!(padded("SAME_UPPER", 4, 1, 3, 1), [0; 4]);
        assert_eq!(padded("VALID", 32, 3, 2, 1), [0; 4]);
    }

    #[test]
    fn ceil_mode_adds_what_completes_the_last_window() {
        assert_eq!(ceil_extra([6, 7], [3, 3], [2, 2], [0; 4]), [1, 0]);
        // the window that would start beyond the image is dropped
        assert_eq!(ceil_extra([2, 2], [1, 1], [3, 3], [0; 4]), [0, 0]);
    }
}
