"""Search over the numbers of a merge: proposed by Optuna, evaluated in a run that grows, confirmed against every parent.

space.py         the searched numbers of a mergekit document
merge_search.py  the fields of a search file; schema.py, its JSON schema
search_file.py   the search file: its recipes, and the sweeps that evaluate them
searched_path.py a block of layers searched with the numbers
fidelity.py      smaller evaluations first, and which merges go on
stopping.py      merges that lose stop early
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
