"""The command line. `main` is its root; each file beside it holds a family of verbs and hangs them on the root with
`register`; `frame` surrounds every verb.

A verb imports what it needs inside its function, so that `burnish --help` loads neither torch nor transformers. A new
verb is a function in one of the files, named in that file's `register`; a new file is named in `main`.
"""
