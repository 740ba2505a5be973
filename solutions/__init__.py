"""The reference: every part of the contract, one module per unit, in the order of the lessons."""
