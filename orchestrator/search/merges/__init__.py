"""Search over the numbers of a merge: proposed by Optuna, evaluated in a run that grows, confirmed against every parent.

space.py         the searched numbers of a mergekit document
search_file.py   the search file; schema.py, its JSON schema
sampler.py       the next proposal from the trials before, by Optuna
course.py        which trial comes next, from which results, and when the search ends
evaluation.py    trials as candidates of a run that grows
answers.py       the answers of candidates, question by question
confirmation.py  the best merges against every parent on other questions
importance.py    share of the variance by parameter
run.py           the search from start to end
tables.py        the result as tables
files.py         the winner's recipe, pictures, tables and trials as files
"""
