"""The report of one run, from its records alone. No torch.

verdict    what got better, what got worse, whether to keep it, and what would change that
beyond     reward, gold and the judge's accuracy against sqrt(KL), and where gold peaks
lengths    the three ways in which length gets in, each with its figure, beside the length that the policy moved
answers    the first and the last answers to a prompt, word by word
cost       seconds by part, tokens, labels, what judges were paid; waits between processes
figures    all of it, as the report shows it
terminal   on a terminal or a pipe
page       as a page that fetches nothing
"""
