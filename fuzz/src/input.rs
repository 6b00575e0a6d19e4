//! Takes made-up bytes apart. Nothing here fails: what is missing is zero or empty.

/// The bytes that are left.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number below a bound, which is above zero.
    pub fn below(&mut self, bound: usize) -> usize {
        let number = usize::from(self.byte()) << 8 | usize::from(self.byte());
        number % bound
    }

    /// Bytes behind their number.
    pub fn piece(&mut self) -> &'a [u8] {
        let bytes = usize::from(self.byte());
        self.take(bytes)
    }

    /// So many bytes, or what there is.
    pub fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        piece
    }

    /// Bytes up to a line with a percent sign alone: seeds of several texts can be read by people.
    pub fn text(&mut self) -> &'a [u8] {
        const END: &[u8] = b"\n%\n";
        match self.0.windows(END.len()).position(|it| it == END) {
            Some(at) => {
                let (text, rest) = self.0.split_at(at + 1);
                self.0 = &rest[END.len() - 1..];
                text
            }
            None => self.take(self.0.len()),
        }
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(self.0.len())
    }
}
