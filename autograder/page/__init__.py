"""A learner's own parts on the page: the tabs Your code and Progress, `lab app --work FOLDER`."""
