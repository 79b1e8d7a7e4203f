//! Arithmetic of sliding windows, shared by convolution and pooling.

use super::{OpError, attribute};
use crate::Fact;

/// A window that slides along one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Number of taps.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Distance between taps.
    pub dilation: usize,
    /// Padding before the axis.
    pub before: usize,
    /// Padding after the axis.
    pub after: usize,
}

/// The windows down and right from ONNX-like attributes; `pads` is top, left, bottom, right.
pub(super) fn windows(kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2], pads: [usize; 4]) -> [Window; 2] {
    [0, 1].map(|i| Window {
        kernel: kernel[i],
        stride: stride[i],
        dilation: dilation[i],
        before: pads[i],
        after: pads[i + 2],
    })
}

impl Window {
    /// Number of positions along an axis of `length`; `x` is named in the message.
    ///
    /// # Errors
    /// [`OpError`] for a zero attribute, or a window larger than the padded axis.
    pub fn positions(&self, length: usize, x: &Fact) -> Result<usize, OpError> {
        for (name, value) in [("kernel", self.kernel), ("stride", self.stride), ("dilation", self.dilation)] {
            if value == 0 {
                return Err(attribute(name, "must be at least 1"));
            }
        }
        let span = (self.kernel - 1).checked_mul(self.dilation).and_then(|s| s.checked_add(1));
        let padded = length.checked_add(self.before).and_then(|n| n.checked_add(self.after));
        match (span, padded) {
            (Some(span), Some(padded)) if span <= padded => Ok((padded - span) / self.stride + 1),
            (Some(span), Some(padded)) => {
                let why = format!("the window spans {span} of only {padded} padded positions of {x}");
                Err(attribute("kernel", why))
            }
            _ => Err(attribute("pad", "overflows")),
        }
    }

    /// Refuses padding that could hold a whole window: its pool would be over nothing.
    pub fn check_pool(&self) -> Result<(), OpError> {
        if self.before.max(self.after) >= self.kernel.max(1) {
            return Err(attribute("pad", format!("must be smaller than the window of {}", self.kernel)));
        }
        Ok(())
    }

    /// Where tap `tap` of window `position` reads an axis of `length`; `None` in the padding.
    pub fn source(&self, position: usize, tap: usize, length: usize) -> Option<usize> {
        (position * self.stride + tap * self.dilation).checked_sub(self.before).filter(|i| *i < length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: usize, stride: usize, dilation: usize, before: usize, after: usize) -> Window {
        Window { kernel, stride, dilation, before, after }
    }

    #[test]
    fn positions_follow_the_usual_formula() {
        let x = Fact::new([1, 1, 7, 7]);
        let cases = [
            (window(3, 1, 1, 0, 0), 5),
            (window(3, 2, 1, 1, 1), 4),
            (window(3, 2, 1, 0, 1), 3),
            (window(3, 1, 3, 0, 0), 1),
            (window(7, 5, 1, 0, 0), 1),
            (window(1, 3, 1, 0, 0), 3),
        ];
        for (window, expected) in cases {
            assert_eq!(window.positions(7, &x), Ok(expected), "{window:?}");
        }
    }

    #[test]
    fn a_window_larger_than_the_padded_input_is_refused() {
        let x = Fact::new([1, 1, 2, 2]);
        assert!(window(3, 1, 1, 0, 0).positions(2, &x).is_err());
        assert_eq!(window(3, 1, 1, 0, 1).positions(2, &x), Ok(1));
        assert!(window(2, 1, usize::MAX, 0, 0).positions(2, &x).is_err());
        assert!(window(1, 1, 1, usize::MAX, 1).positions(2, &x).is_err());
    }

    #[test]
    fn zero_attributes_are_refused() {
        let x = Fact::new([1, 1, 3, 3]);
        for bad in [window(0, 1, 1, 0, 0), window(1, 0, 1, 0, 0), window(1, 1, 0, 0, 0)] {
            assert!(bad.positions(3, &x).is_err());
        }
    }

    #[test]
    fn taps_in_the_padding_read_nothing() {
        let w = window(3, 2, 1, 1, 1);
        let row = |position| [0, 1, 2].map(|tap| w.source(position, tap, 3));
        assert_eq!(row(0), [None, Some(0), Some(1)]);
        assert_eq!(row(1), [Some(1), Some(2), None]);
    }
}
