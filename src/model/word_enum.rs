//! Enums whose variants are words of the contract, one to one.

/// Declares such an enum, with `ALL`, `as_str`, `parse` and `Display`.
macro_rules! word_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$doc:meta])* $variant:ident = $word:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All of them, in the contract's order.
            pub const ALL: [$name; [$($word),*].len()] = [$($name::$variant),*];

            /// The word of the contract.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }

            /// The variant for a word of the contract.
            pub fn parse(word: &str) -> Option<$name> {
                $name::ALL.into_iter().find(|it| it.as_str() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use word_enum;

#[cfg(test)]
mod tests {
    word_enum! {
        /// Two words.
        pub enum Word {
            /// The first.
            One = "one",
            /// The second.
            TheOther = "the-other",
        }
    }

    #[test]
    fn words_are_one_to_one() {
        assert_eq!(Word::ALL, [Word::One, Word::TheOther]);
        for word in Word::ALL {
            assert_eq!(Word::parse(word.as_str()), Some(word));
        }
        assert_eq!(Word::TheOther.to_string(), "the-other");
        assert_eq!(Word::parse("other"), None);
    }
}
