//! Judges of a run: each looks at one promise, and says what broke it in words.
