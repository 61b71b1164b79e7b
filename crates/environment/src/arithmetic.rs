//! A pocket calculator: numbers, `+ - * / %`, signs and brackets, within limits.

/// Why an expression has no value, in words for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArithmeticError {
    #[error("the expression is longer than {LONGEST} characters")]
    TooLong,
    #[error("the expression nests deeper than {DEEPEST} levels")]
    TooDeep,
    #[error("the expression ends where a number is missing")]
    Unfinished,
    #[error("unexpected `{0}` in the expression; use numbers, + - * / % and brackets")]
    Unexpected(char),
    #[error("division by zero")]
    DivisionByZero,
    #[error("the result is too large")]
    TooLarge,
}

const LONGEST: usize = 256;
const DEEPEST: usize = 32;

/// Results from here on are no longer exact integers, and no price.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// The value of an expression: `3 * (2 + 4.5)` is 19.5. `%` is the remainder, with the sign of the
/// dividend; operators of one level are taken from left to right.
pub fn evaluate(expression: &str) -> Result<f64, ArithmeticError> {
    if expression.chars().count() > LONGEST {
        return Err(ArithmeticError::TooLong);
    }
    let mut reader = Reader { rest: expression, depth: 0 };
    let value = reader.sum()?;
    match reader.peek() {
        None => Ok(value),
        Some(unexpected) => Err(ArithmeticError::Unexpected(unexpected)),
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn sum(&mut self) -> Result<f64, ArithmeticError> {
        let mut value = self.product()?;
        while let Some(operator @ ('+' | '-')) = self.peek() {
            self.skip();
            let right = self.product()?;
            value = bounded(if operator == '+' { value + right } else { value - right })?;
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<f64, ArithmeticError> {
        let mut value = self.factor()?;
        while let Some(operator @ ('*' | '/' | '%')) = self.peek() {
            self.skip();
            let right = self.factor()?;
            if operator != '*' && right == 0.0 {
                return Err(ArithmeticError::DivisionByZero);
            }
            value = bounded(match operator {
                '*' => value * right,
                '/' => value / right,
                _ => value % right,
            })?;
        }
        Ok(value)
    }

    /// A number, or a sign or a bracket and what it applies to.
    fn factor(&mut self) -> Result<f64, ArithmeticError> {
        match self.peek().ok_or(ArithmeticError::Unfinished)? {
            sign @ ('+' | '-') => {
                self.skip();
                let value = self.nested(Self::factor)?;
                Ok(if sign == '-' { -value } else { value })
            }
            '(' => {
                self.skip();
                let value = self.nested(Self::sum)?;
                match self.peek().ok_or(ArithmeticError::Unfinished)? {
                    ')' => self.skip(),
                    unexpected => return Err(ArithmeticError::Unexpected(unexpected)),
                }
                Ok(value)
            }
            '0'..='9' | '.' => self.number(),
            unexpected => Err(ArithmeticError::Unexpected(unexpected)),
        }
    }

    /// One level deeper: what limits recursion, so that no expression can exhaust the stack.
    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<f64, ArithmeticError>,
    ) -> Result<f64, ArithmeticError> {
        if self.depth == DEEPEST {
            return Err(ArithmeticError::TooDeep);
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn number(&mut self) -> Result<f64, ArithmeticError> {
        let is_part = |c: char| c.is_ascii_digit() || c == '.';
        let length = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(length);
        // What is made of digits and points alone fails for its points.
        let value = digits.parse().map_err(|_| ArithmeticError::Unexpected('.'))?;
        self.rest = rest;
        bounded(value)
    }

    /// The next character that is not white space, which is then the first of the rest.
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn skip(&mut self) {
        let mut rest = self.rest.chars();
        rest.next();
        self.rest = rest.as_str();
    }
}

fn bounded(value: f64) -> Result<f64, ArithmeticError> {
    if value.abs() <= LARGEST { Ok(value) } else { Err(ArithmeticError::TooLarge) }
}

#[cfg(test)]
mod tests;
