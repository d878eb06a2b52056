// Before anything is drawn: the answer that the page begins with is the overview's, and another view may be asked for.
if (!/^(#\/?(overview)?)?$/.test(location.hash)) document.documentElement.dataset.elsewhere = "";
