"""IPython settings of the image."""

c = get_config()  # noqa: F821 - IPython defines it
# The tip is drawn from the global random generator: after random.seed(0) a page reload would change the next draw.
c.InteractiveShell.enable_tip = False
