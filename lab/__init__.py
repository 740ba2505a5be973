"""What every implementation of the Transformer's parts shares.

One letter per axis, the same everywhere:

    B sentences in a batch    T tokens of the target    S tokens of the source
    V words in the vocabulary D width of a token        H heads
    K width of one head       F width of the feed-forward layer

Two lengths never share a letter: T asks, S answers. Masks are boolean, True means "may look".
"""
