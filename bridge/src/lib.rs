//! The program weft: composes protocols, core and stores.
