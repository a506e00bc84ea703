"""Data to HTML. Pure functions; every text that comes from outside goes through `escape`.

The results are set as `innerHTML` of live panels or as values of `gr.HTML` blocks, whose template must stay
"${value}": Gradio evaluates the outcome of a template with `{{ }}` as JavaScript, so that a name such as
"${alert(1)}" would run.
"""
